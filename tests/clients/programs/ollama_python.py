"""Ollama's Python client: chats and completions."""

from __future__ import annotations

import json

from ollama import Client
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
    TOOLS,
    TURNS,
    report,
)


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


def called(calls: list) -> list:
    return [[call.function.name, dict(call.function.arguments)] for call in calls]


def tools() -> dict:
    turns = [{"role": "user", "content": "tools"}]
    said = at(CALLS).chat("any", turns, tools=TOOLS).message
    result = {"role": "tool", "tool_name": "get_weather", "content": "tools"}
    answer = at(CALLS).chat("any", [*turns, said, result], tools=TOOLS).message.content
    return {"calls": called(said.tool_calls), "answer": answer}


def tools_stream() -> list:
    turns = [{"role": "user", "content": "tools stream"}]
    parts = at(CALLS).chat("any", turns, tools=TOOLS, stream=True)
    return [call for part in parts for call in called(part.message.tool_calls or [])]


def thoughts() -> str:
    turns = [{"role": "user", "content": "thoughts"}]
    return at(CALLS).chat("any", turns, think=True).message.thinking


def logprobs() -> dict:
    turns, options = [{"role": "user", "content": "logprobs"}], {"num_predict": 5, "temperature": 0}
    asked = {"options": options, "logprobs": True, "top_logprobs": 2}
    answer = at(FORMS).chat("any", turns, **asked)
    tokens = [[token.token, token.logprob] for token in answer.logprobs]
    most = [len(token.top_logprobs) for token in answer.logprobs]
    return {"text": answer.message.content, "tokens": tokens, "top": most}


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
        "tools": tools,
        "tools stream": tools_stream,
        "thoughts": thoughts,
        "parse": lambda: json.loads(ask("parse", at(FORMS), format=PET)),
        "logprobs": logprobs,
        "completion": lambda: client.generate("any", "completion").response,
    },
    "ollama",
)
