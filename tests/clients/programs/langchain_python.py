"""LangChain over `langchain-openai`."""

from __future__ import annotations

from langchain_openai import ChatOpenAI
from report import AGENT, AWAY, KEY, LOCKED, SLOW, SYSTEM, TURNS, report


def at(url: str, key: str = "any", **fields) -> ChatOpenAI:
    return ChatOpenAI(
        base_url=f"{url}/v1", api_key=key, model="any", max_retries=0, timeout=60, **fields
    )


def ask(content: str, *place: str, **fields) -> str:
    return at(*(place or (AGENT,)), **fields).invoke(content).content


def cancel() -> str:
    parts = at(SLOW).stream("cancel")
    for part in parts:
        if part.content:
            parts.close()
            return part.content
    return ""


report(
    {
        "chat": lambda: ask("chat"),
        "stream": lambda: [part.content for part in at(AGENT).stream("stream")],
        "turns": lambda: at(AGENT).invoke([{"role": "system", "content": SYSTEM}, *TURNS]).content,
        "stop": lambda: ask("stop", stop_sequences=[" world"]),
        "length": lambda: ask("length", max_tokens=1),
        "sampling": lambda: ask("sampling", temperature=0.5, seed=7),
        "refused": lambda: ask("refused", temperature=1000),
        "away": lambda: ask("away", AWAY),
        "key": lambda: ask("key", LOCKED, KEY),
        "wrong key": lambda: ask("wrong key", LOCKED),
        "cancel": cancel,
        "responses": lambda: at(AGENT, use_responses_api=True).invoke("responses").text,
    },
    "langchain-openai",
)
