"""Bodies that clients send to each path, with most of the fields there are, and broken ones.

Deterministic: the same random numbers make the same bodies.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from random import Random
from typing import Any

import msgspec

from shared.protocol.messages import ChatMessage, TemplateOptions
from shared.protocol.token_question import TOKENS_PATH, TokenQuestion

_TURN = {"role": "user", "content": "Hi"}
_SCHEMA = {"type": "object", "properties": {"a": {"enum": [1, "b", None]}}, "required": ["a"]}
_FUNCTION = {"name": "f", "description": "does it", "parameters": _SCHEMA}
_TOOL = {"type": "function", "function": _FUNCTION}
_CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
_SAMPLING = {"temperature": 0.5, "top_p": 0.9, "top_k": 4, "min_p": 0.1, "seed": 7}
_PENALTIES = {"frequency_penalty": 1, "presence_penalty": -1, "repetition_penalty": 1.1}
_TURNS = [
    {"role": "system", "content": [{"type": "text", "text": "be brief"}]},
    {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [_CALL]},
    {"role": "tool", "tool_call_id": "c", "content": "1"},
    _TURN,
]
_CHAT = {
    "model": "any",
    "messages": _TURNS,
    "stream": True,
    "n": 2,
    "max_tokens": 9,
    "stop": ["x"],
    "logit_bias": {"5": -3},
    "logprobs": True,
    "top_logprobs": 2,
    "tools": [_TOOL],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "user": "me",
    "stream_options": {"include_usage": True},
    "reasoning_effort": "low",
    "chat_template_kwargs": {"enable_thinking": False},
    "metadata": {"a": "b"},
    "goodspeed": {"acceptance_mode": "coupled", "draft_length": 2},
}
_FORM = {"type": "json_schema", "json_schema": {"name": "s", "schema": _SCHEMA, "strict": True}}
_COMPLETION = {"prompt": ["Hi", "Ho"], "logprobs": 2, "echo": True, "max_tokens": 3, **_SAMPLING}
_MESSAGE = {
    "model": "any",
    "max_tokens": 9,
    "system": [{"type": "text", "text": "a"}],
    "messages": [_TURN, {"role": "assistant", "content": [{"type": "text", "text": "b"}]}],
    "tools": [{"name": "f", "input_schema": _SCHEMA}],
    "tool_choice": {"type": "any"},
    "thinking": {"type": "disabled"},
    "stop_sequences": ["x"],
    "stream": True,
    "metadata": {"user_id": "me"},
}
_RESPONSE = {
    "model": "any",
    "input": [{"type": "message", **_TURN}],
    "instructions": "be brief",
    "tools": [{"type": "function", **_FUNCTION}],
    "tool_choice": "auto",
    "stream": True,
    "text": {"format": {"type": "json_schema", "name": "s", "schema": _SCHEMA}},
    "background": True,
    "store": False,
    "metadata": {"a": "b"},
    "max_output_tokens": 9,
    "reasoning": {"effort": "low"},
    "top_logprobs": 2,
}
_OLLAMA = {
    "model": "any",
    "stream": True,
    "format": _SCHEMA,
    "think": False,
    "keep_alive": "5m",
    "options": {"num_predict": 9, "stop": ["x"], **_SAMPLING},
}
CLIENT_BODIES: Mapping[str, tuple[Any, ...]] = {
    "/v1/chat/completions": (
        {"messages": [_TURN]},
        {**_CHAT, **_SAMPLING, **_PENALTIES},
        {"messages": [_TURN], "response_format": _FORM},
        {"messages": [_TURN], "guided_regex": "[a-c]+"},
        {"messages": [_TURN], "tools": [_TOOL], "tool_choice": "required"},
        {"messages": [_TURN], "tools": [_TOOL], "tool_choice": _TOOL},
    ),
    "/v1/completions": ({"prompt": "Hi"}, _COMPLETION, {"prompt": [1, 2], "grammar": 'start: "a"'}),
    "/v1/messages": (_MESSAGE, {"max_tokens": 1, "messages": [_TURN]}),
    "/v1/messages/count_tokens": (_MESSAGE,),
    "/v1/responses": (_RESPONSE, {"input": "Hi"}),
    "/v1/responses/resp_1/cancel": ({},),
    "/api/chat": ({**_OLLAMA, "messages": _TURNS, "tools": [_TOOL]}, {"messages": [_TURN]}),
    "/api/generate": ({**_OLLAMA, "prompt": "Hi", "system": "a", "suffix": ""}, {"prompt": "Hi"}),
    "/api/show": ({"model": "any", "verbose": True},),
    "/tokenize": (
        {"prompt": "Hi", "add_special_tokens": False, "return_token_strs": True},
        {"content": "Hi", "with_pieces": True, "add_special": True},
        {"messages": [_TURN], "add_generation_prompt": False},
    ),
    "/detokenize": ({"tokens": [1, 2, 256]},),
}
_QUESTIONS = (
    TokenQuestion("Hi"),
    TokenQuestion("Hi", adds_special=False),
    TokenQuestion(messages=(ChatMessage("user", "Hi"),), template=TemplateOptions("{}")),
)
_ODD_VALUES: tuple[Any, ...] = (
    *(None, True, "", "x", "\ud800", "\0", "auto", 0, -1, 1 << 63, 1 << 70, 1e308, float("nan")),
    *([], {}, [None], [[]], {"": ""}, {"type": 7}, {"type": "text"}, "a" * 70_000, [0] * 2000),
)


class JsonBodies:
    """Bodies of one port's paths; what no path has is an empty object."""

    def __init__(self, random: Random, of_paths: Mapping[str, tuple[Any, ...]]) -> None:
        self._random = random
        self._of_paths = of_paths

    def body(self, path: str) -> bytes:
        """One for this path, more or less broken."""
        random = self._random
        if path == TOKENS_PATH:
            return self._question()
        tree = copy.deepcopy(random.choice(self._of_paths.get(path, ({},))))
        for _ in range(random.choice((0, 0, 1, 1, 2, 4))):
            tree = self._changed(tree)
        return json.dumps(tree).encode()

    def _question(self) -> bytes:
        packed = msgspec.msgpack.encode(self._random.choice(_QUESTIONS))
        if self._random.random() < 0.5:
            return packed
        place = self._random.randrange(len(packed))
        return packed[:place] + self._random.randbytes(self._random.randrange(3)) + packed[place:]

    def _changed(self, tree: Any) -> Any:
        """The same with another value, or without one, in one place."""
        random = self._random
        if not isinstance(tree, dict | list) or not tree or random.random() < 0.1:
            return copy.copy(random.choice(_ODD_VALUES))
        key: Any = random.choice(list(tree) if isinstance(tree, dict) else range(len(tree)))
        if random.random() < 0.1:
            del tree[key]
        elif isinstance(tree, dict) and random.random() < 0.1:
            tree[random.choice(("x", "goodspeed", "n", "tools", "stop"))] = tree.pop(key)
        else:
            tree[key] = self._changed(tree[key])
        return tree
