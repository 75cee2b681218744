"""Anthropic's Python client: messages."""

from __future__ import annotations

from anthropic import Anthropic
from report import AGENT, AWAY, KEY, LOCKED, SLOW, SYSTEM, TURNS, report


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
    },
    "anthropic",
)
