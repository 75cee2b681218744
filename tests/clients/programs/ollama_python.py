"""Ollama's Python client: chats and completions."""

from __future__ import annotations

from ollama import Client
from report import AGENT, AWAY, KEY, LOCKED, SLOW, SYSTEM, TURNS, report


def at(url: str, key: str = "any") -> Client:
    return Client(url, timeout=60, headers={"Authorization": f"Bearer {key}"})


client = at(AGENT)


def ask(content: str, client: Client = client, **fields) -> str:
    turns = fields.pop("messages", [{"role": "user", "content": content}])
    return client.chat("any", turns, **fields).message.content


def stream() -> list[str]:
    turns = [{"role": "user", "content": "stream"}]
    return [part.message.content for part in client.chat("any", turns, stream=True)]


def cancel() -> str:
    parts = at(SLOW).chat("any", [{"role": "user", "content": "cancel"}], stream=True)
    first = next(parts).message.content
    parts.close()
    return first


report(
    {
        "models": lambda: [model.model for model in client.list().models],
        "chat": lambda: ask("chat"),
        "stream": stream,
        "turns": lambda: ask("", messages=[{"role": "system", "content": SYSTEM}, *TURNS]),
        "stop": lambda: ask("stop", options={"stop": [" world"]}),
        "length": lambda: ask("length", options={"num_predict": 1}),
        "sampling": lambda: ask("sampling", options={"temperature": 0.5, "seed": 7}),
        "refused": lambda: ask("refused", options={"temperature": 1000}),
        "away": lambda: ask("away", at(AWAY)),
        "key": lambda: ask("key", at(LOCKED, KEY)),
        "wrong key": lambda: ask("wrong key", at(LOCKED)),
        "cancel": cancel,
        "completion": lambda: client.generate("any", "completion").response,
    },
    "ollama",
)
