"""LiteLLM, by the names of three of its providers."""

from __future__ import annotations

import json

import litellm
from report import (
    AGENT,
    AWAY,
    CALLS,
    FORMS,
    KEY,
    LOCKED,
    PET,
    SYSTEM,
    TOOLS,
    TURNS,
    WEATHER,
    report,
)

litellm.suppress_debug_info = True
litellm.telemetry = False


def complete(content: str, url: str = AGENT, key: str = "any", **fields):
    turns = fields.pop("messages", [{"role": "user", "content": content}])
    base = {"api_base": f"{url}/v1", "model": "openai/any", **fields}
    return litellm.completion(messages=turns, api_key=key, num_retries=0, timeout=60, **base)


def ask(content: str, *place: str, **fields) -> str:
    return complete(content, *place, **fields).choices[0].message.content


def stream() -> list[str]:
    parts = complete("stream", stream=True)
    return [part.choices[0].delta.content or "" for part in parts]


def called(calls: list) -> list:
    return [[call.function.name, json.loads(call.function.arguments)] for call in calls]


def tools() -> dict:
    said = complete("tools", CALLS, tools=TOOLS).choices[0].message
    result = {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": "tools"}
    turns = [{"role": "user", "content": "tools"}, said.model_dump(exclude_none=True), result]
    answer = ask("", CALLS, messages=turns, tools=TOOLS)
    return {"calls": called(said.tool_calls), "answer": answer}


def tools_stream() -> list:
    parts = list(complete("tools stream", CALLS, tools=TOOLS, stream=True))
    return called(litellm.stream_chunk_builder(parts).choices[0].message.tool_calls)


def forced() -> list:
    answer = complete("forced", FORMS, tools=TOOLS, tool_choice="required")
    return called(answer.choices[0].message.tool_calls)


def parse() -> dict:
    form = {"type": "json_schema", "json_schema": {"name": "pet", "schema": PET, "strict": True}}
    return json.loads(ask("parse", FORMS, response_format=form))


def respond(content: object, url: str = AGENT, **fields):
    base = {"model": "openai/any", "api_base": f"{url}/v1", "api_key": "any"}
    return litellm.responses(input=content, **base, **fields)


def responses_stream() -> list[str]:
    events = respond("responses stream", stream=True)
    return [event.delta for event in events if event.type == "response.output_text.delta"]


def responses_tools() -> dict:
    offered = [{"type": "function", **WEATHER}]
    said = respond("responses tools", CALLS, tools=offered).output
    calls = [item for item in said if item.type == "function_call"]
    told = {"call_id": calls[0].call_id, "output": "responses tools"}
    turns = [{"role": "user", "content": "responses tools"}]
    turns += [item.model_dump(exclude_none=True) for item in calls]
    turns.append({"type": "function_call_output", **told})
    answer = respond(turns, CALLS, tools=offered).output[-1].content[0].text
    return {"calls": [[call.name, json.loads(call.arguments)] for call in calls], "answer": answer}


def responses_parse() -> dict:
    form = {"format": {"type": "json_schema", "name": "pet", "schema": PET}}
    return json.loads(respond("responses parse", FORMS, text=form).output[0].content[0].text)


def responses_logprobs() -> dict:
    asked = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    asked |= {"max_output_tokens": 5, "temperature": 0}
    part = respond("responses logprobs", FORMS, **asked).output[0].content[0]
    told = [dict(token) for token in part.logprobs]
    tokens = [[token["token"], token["logprob"]] for token in told]
    return {"text": part.text, "tokens": tokens, "top": [len(one["top_logprobs"]) for one in told]}


def completion() -> str:
    base = {"model": "text-completion-openai/any", "api_base": f"{AGENT}/v1", "api_key": "any"}
    return litellm.text_completion(prompt="completion", **base).choices[0].text


def logprobs() -> dict:
    answer = complete("logprobs", FORMS, max_tokens=5, temperature=0, logprobs=True, top_logprobs=2)
    (choice,) = answer.choices
    content = choice.logprobs.content
    tokens = [[token.token, token.logprob] for token in content]
    most = [len(token.top_logprobs) for token in content]
    return {"text": choice.message.content, "tokens": tokens, "top": most}


report(
    {
        "chat": lambda: ask("chat"),
        "stream": stream,
        "turns": lambda: ask("", messages=[{"role": "system", "content": SYSTEM}, *TURNS]),
        "stop": lambda: ask("stop", stop=[" world"]),
        "length": lambda: ask("length", max_tokens=1),
        "sampling": lambda: ask("sampling", temperature=0.5, seed=7),
        "refused": lambda: ask("refused", temperature=1000),
        "away": lambda: ask("away", AWAY),
        "key": lambda: ask("key", LOCKED, KEY),
        "wrong key": lambda: ask("wrong key", LOCKED),
        "tools": tools,
        "tools stream": tools_stream,
        "forced": forced,
        "thoughts": lambda: complete("thoughts", CALLS).choices[0].message.reasoning_content,
        "parse": parse,
        "logprobs": logprobs,
        "completion": completion,
        "responses": lambda: respond("responses").output[0].content[0].text,
        "responses stream": responses_stream,
        "responses tools": responses_tools,
        "responses parse": responses_parse,
        "responses logprobs": responses_logprobs,
        "as anthropic": lambda: ask("as anthropic", model="anthropic/any", api_base=AGENT),
        "as ollama": lambda: ask("as ollama", model="ollama_chat/any", api_base=AGENT),
    },
    "litellm",
)
