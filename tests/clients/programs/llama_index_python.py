"""LlamaIndex over `llama-index-llms-openai-like`."""

from __future__ import annotations

from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike
from report import AGENT, AWAY, KEY, LOCKED, SYSTEM, TURNS, report


def at(url: str, key: str = "any", **fields) -> OpenAILike:
    return OpenAILike(
        model="any",
        api_base=f"{url}/v1",
        api_key=key,
        is_chat_model=True,
        max_retries=0,
        timeout=60,
        **fields,
    )


def ask(content: str, *place: str, **fields) -> str:
    turns = [ChatMessage(role="user", content=content)]
    return at(*(place or (AGENT,)), **fields).chat(turns).message.content


def stream() -> list[str]:
    parts = at(AGENT).stream_chat([ChatMessage(role="user", content="stream")])
    return [part.delta or "" for part in parts]


def turns() -> str:
    said = [ChatMessage(**turn) for turn in ({"role": "system", "content": SYSTEM}, *TURNS)]
    return at(AGENT).chat(said).message.content


report(
    {
        "chat": lambda: ask("chat"),
        "stream": stream,
        "turns": turns,
        "stop": lambda: ask("stop", additional_kwargs={"stop": [" world"]}),
        "length": lambda: ask("length", max_tokens=1),
        "sampling": lambda: ask("sampling", temperature=0.5, additional_kwargs={"seed": 7}),
        "refused": lambda: ask("refused", additional_kwargs={"top_p": 1000}, temperature=0.5),
        "away": lambda: ask("away", AWAY),
        "key": lambda: ask("key", LOCKED, KEY),
        "wrong key": lambda: ask("wrong key", LOCKED),
        "completion": lambda: (
            OpenAILike(model="any", api_base=f"{AGENT}/v1", api_key="any", is_chat_model=False)
            .complete("completion")
            .text
        ),
    },
    "llama-index-llms-openai-like",
)
