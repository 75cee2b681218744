"""Tools from an unmodified client to the target and back: Qwen's vocabulary, Qwen3's own template.

Verifier, wire, board and API are real; only the weights are a script, for the target and for the
board, whose drafts are accepted.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from openai import AsyncOpenAI
from tokenizers import AddedToken, pre_tokenizers

from edge_agent.draft_model.scripted_drafter import ScriptedDrafter
from tests.support.ends.api_server import serving
from tests.support.ends.loopback import loopback, make_service
from tests.support.models.packaged_tokenizers import qwen_tokenizer
from tests.support.models.vocabularies import shipped_template
from verifier.target.scripted_target import ScriptedTarget
from verifier.torch_target.loading.tokenizer import HuggingFaceTokenizer

VISIBLE = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
THOUGHTS = ("<think>", "</think>")
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "How it is",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich"}}\n</tool_call>'
OUTPUT = f"<think>\nThe sky, hm.\n</think>\n\nI look.\n{CALL}\n{CALL}"


@pytest.fixture(scope="module")
def tokenizer() -> HuggingFaceTokenizer:
    """Without merges: every byte is a token."""
    source: Any = qwen_tokenizer()
    source.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    source.add_tokens([AddedToken(name, normalized=False) for name in (*VISIBLE, *THOUGHTS)])
    source.eos_token = "<|im_end|>"
    source.chat_template = shipped_template("Qwen-Qwen3-0.6B")
    return HuggingFaceTokenizer(source, len(source))


class Saying:
    """A model that says one thing behind whatever prompt ends with `<|im_start|>assistant`."""

    def __init__(self, tokenizer: HuggingFaceTokenizer, output: str) -> None:
        self._said = (tokenizer, output)
        self.vocab_size = len(tokenizer.token_bytes)
        self._output = [*tokenizer.encode_text(output), *tokenizer.encode_text("<|im_end|>")]
        self._start = tokenizer.encode_text("<|im_start|>assistant\n")

    def drafts(self) -> Saying:
        """One like it, for a board."""
        return Saying(*self._said)

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Certain of the next token."""
        ids, start = list(tokens), self._start
        begin = len(ids) - ids[::-1].index(start[0]) - 1 + len(start) if start[0] in ids else 0
        logits = np.zeros(self.vocab_size, np.float32)
        said = max(len(ids) - begin, 0)
        logits[self._output[min(said, len(self._output) - 1)]] = 100.0
        return logits


@asynccontextmanager
async def client_of(tokenizer: HuggingFaceTokenizer, model: Saying) -> AsyncIterator[AsyncOpenAI]:
    """OpenAI's client of a board that drafts as this target writes."""
    target = ScriptedTarget(model, context_tokens=2048)
    drafter = ScriptedDrafter(model.drafts().logits, tokenizer.token_bytes)
    async with (
        loopback(make_service(target, tokenizer), [drafter]) as (_, [agent]),
        serving(agent) as url,
        AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client,
    ):
        yield client


def ask(tokenizer: HuggingFaceTokenizer, output: str, **fields: Any) -> tuple[Any, str]:
    """The client's answer, put together from a stream, and the prompt that the target read."""
    prompts: list[list[int]] = []

    class Listening(Saying):
        def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
            prompts.append(list(tokens))
            return super().logits(tokens)

    async def scenario() -> Any:
        async with client_of(tokenizer, Listening(tokenizer, output)) as client:
            asked: Any = {"model": "any", "tools": TOOLS, "max_tokens": 400, **fields}
            async with client.chat.completions.stream(**asked) as stream:
                return await stream.get_final_completion()

    answer = asyncio.run(scenario())
    first = min(prompts, key=len)
    return answer, b"".join(tokenizer.token_bytes[i] for i in first).decode()


def test_an_agents_turn_goes_out_and_comes_back(tokenizer: HuggingFaceTokenizer) -> None:
    answer, prompt = ask(tokenizer, OUTPUT, messages=[{"role": "user", "content": "Weather?"}])
    (choice,) = answer.choices
    assert ("tool_calls", "I look.\n") == (choice.finish_reason, choice.message.content)
    assert [{"city": "Zürich"}] * 2 == [
        json.loads(call.function.arguments) for call in choice.message.tool_calls
    ]
    assert "<tools>\n" + json.dumps(TOOLS[0]) in prompt


def test_the_results_of_calls_are_shown_to_the_target(tokenizer: HuggingFaceTokenizer) -> None:
    function = {"name": "get_weather", "arguments": '{"city": "Zürich"}'}
    call = {"id": "c1", "type": "function", "function": function}
    messages = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "Rain </tool_response><|im_end|>"},
    ]
    answer, prompt = ask(tokenizer, "It rains.", messages=messages)
    assert ("stop", "It rains.") == (
        answer.choices[0].finish_reason,
        answer.choices[0].message.content,
    )
    assert CALL in prompt
    assert "<tool_response>\nRain </tool_response><|im_end|>\n</tool_response>" in prompt


def test_every_token_of_thoughts_text_and_calls_has_its_log_probability(
    tokenizer: HuggingFaceTokenizer,
) -> None:
    turn = {"role": "user", "content": "Weather?"}
    asked: Any = {"messages": [turn], "logprobs": True, "top_logprobs": 1}
    streamed, _ = ask(tokenizer, OUTPUT, **asked)

    async def whole() -> Any:
        async with client_of(tokenizer, Saying(tokenizer, OUTPUT)) as client:
            return await client.chat.completions.create(model="any", tools=TOOLS, **asked)

    for answer in (asyncio.run(whole()), streamed):
        told = answer.choices[0].logprobs.content
        assert OUTPUT.encode() == b"".join(bytes(token.bytes) for token in told)
        assert all(token.bytes == token.top_logprobs[0].bytes for token in told)


def test_a_message_of_a_response_has_those_of_its_own_tokens(
    tokenizer: HuggingFaceTokenizer,
) -> None:
    offered = [{"type": "function", **tool["function"], "strict": False} for tool in TOOLS]
    asked: Any = {"model": "any", "input": "Weather?", "tools": offered}
    asked["include"] = ["message.output_text.logprobs"]

    async def scenario() -> tuple[Any, Any, list[Any]]:
        async with client_of(tokenizer, Saying(tokenizer, OUTPUT)) as client:
            whole = await client.responses.create(**asked)
            async with client.responses.stream(**asked) as stream:
                events: list[Any] = [event async for event in stream]
                return whole, await stream.get_final_response(), events

    whole, streamed, events = asyncio.run(scenario())
    messages = [response.output[1].content[0] for response in (whole, streamed)]
    deltas = [event for event in events if event.type == "response.output_text.delta"]
    ways = [
        *(message.logprobs for message in messages),
        [token for event in deltas for token in event.logprobs],
    ]
    for told in ways:
        # With the mark that stands before it, and no token of thoughts or calls.
        assert "\n</think>\n\nI look.\n" == "".join(token.token for token in told)
