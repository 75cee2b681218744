"""LiteLLM, by the names of three of its providers."""

from __future__ import annotations

import litellm
from report import AGENT, AWAY, KEY, LOCKED, SYSTEM, TURNS, report

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
        "as anthropic": lambda: ask("as anthropic", model="anthropic/any", api_base=AGENT),
        "as ollama": lambda: ask("as ollama", model="ollama_chat/any", api_base=AGENT),
    },
    "litellm",
)
