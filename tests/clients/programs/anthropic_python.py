"""Anthropic's Python client: messages."""

from __future__ import annotations

import json

from anthropic import Anthropic
from report import (
    AGENT,
    AWAY,
    CALLS,
    FORMS,
    KEY,
    LOCKED,
    PET,
    SLOW,
    SYSTEM,
    TURNS,
    WEATHER,
    report,
)


def at(url: str, key: str = "any") -> Anthropic:
    return Anthropic(base_url=url, api_key=key, max_retries=0, timeout=60)


client = at(AGENT)


def ask(content: str, client: Anthropic = client, **fields) -> str:
    asked = {"max_tokens": 100, "messages": [{"role": "user", "content": content}], **fields}
    return client.messages.create(model="any", **asked).content[0].text


def stream() -> list[str]:
    turns = [{"role": "user", "content": "stream"}]
    with client.messages.stream(model="any", messages=turns, max_tokens=100) as told:
        return list(told.text_stream)


def cancel() -> str:
    turns = [{"role": "user", "content": "cancel"}]
    with at(SLOW).messages.stream(model="any", messages=turns, max_tokens=100) as told:
        return next(told.text_stream)


OFFERED = [
    {
        "name": WEATHER["name"],
        "description": WEATHER["description"],
        "input_schema": WEATHER["parameters"],
    }
]


def called(content: list) -> list:
    return [[block.name, block.input] for block in content if block.type == "tool_use"]


def tools() -> dict:
    asked = {"model": "any", "max_tokens": 100, "tools": OFFERED}
    turns = [{"role": "user", "content": "tools"}]
    said = at(CALLS).messages.create(messages=turns, **asked).content
    call = next(block for block in said if block.type == "tool_use")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "tools"}
    turns += [{"role": "assistant", "content": said}, {"role": "user", "content": [result]}]
    answer = at(CALLS).messages.create(messages=turns, **asked).content[-1].text
    return {"calls": called(said), "answer": answer}


def tools_stream() -> list:
    turns = [{"role": "user", "content": "tools stream"}]
    asked = {"model": "any", "max_tokens": 100, "messages": turns, "tools": OFFERED}
    with at(CALLS).messages.stream(**asked) as told:
        return called(told.get_final_message().content)


def forced() -> list:
    turns = [{"role": "user", "content": "forced"}]
    choice = {"type": "tool", "name": "get_weather"}
    asked = {"messages": turns, "tools": OFFERED, "tool_choice": choice}
    return called(at(FORMS).messages.create(model="any", max_tokens=100, **asked).content)


def thoughts() -> str:
    turns = [{"role": "user", "content": "thoughts"}]
    asked = {"model": "any", "max_tokens": 100, "messages": turns}
    content = at(CALLS).messages.create(thinking={"type": "adaptive"}, **asked).content
    return content[0].thinking


def parse() -> dict:
    form = {"format": {"type": "json_schema", "schema": PET}}
    return json.loads(ask("parse", at(FORMS), output_config=form))


def tokens() -> int:
    turns = [{"role": "user", "content": "one"}]
    return at(FORMS).messages.count_tokens(model="any", messages=turns).input_tokens


report(
    {
        "models": lambda: [model.id for model in client.models.list()],
        "chat": lambda: ask("chat"),
        "stream": stream,
        "turns": lambda: ask("", messages=TURNS, system=SYSTEM),
        "stop": lambda: ask("stop", stop_sequences=[" world"]),
        "length": lambda: ask("length", max_tokens=1),
        "sampling": lambda: ask("sampling", extra_body={"temperature": 0.5, "seed": 7}),
        "refused": lambda: ask("refused", extra_body={"temperature": 1000}),
        "away": lambda: ask("away", at(AWAY)),
        "key": lambda: ask("key", at(LOCKED, KEY)),
        "wrong key": lambda: ask("wrong key", at(LOCKED)),
        "cancel": cancel,
        "tools": tools,
        "tools stream": tools_stream,
        "forced": forced,
        "thoughts": thoughts,
        "parse": parse,
        "tokens": tokens,
    },
    "anthropic",
)
