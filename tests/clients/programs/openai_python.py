"""OpenAI's Python client: chats, completions, responses."""

from __future__ import annotations

from openai import OpenAI
from report import AGENT, AWAY, KEY, LOCKED, SLOW, SYSTEM, TURNS, report


def at(url: str, key: str = "any") -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=60)


client = at(AGENT)


def chat(content: str, client: OpenAI = client, **fields) -> str:
    turns = fields.pop("messages", [{"role": "user", "content": content}])
    answer = client.chat.completions.create(model="any", messages=turns, **fields)
    return answer.choices[0].message.content


def stream() -> list[str]:
    turns = [{"role": "user", "content": "stream"}]
    chunks = client.chat.completions.create(model="any", messages=turns, stream=True)
    return [chunk.choices[0].delta.content or "" for chunk in chunks]


def cancel() -> str:
    turns = [{"role": "user", "content": "cancel"}]
    chunks = at(SLOW).chat.completions.create(model="any", messages=turns, stream=True)
    next(chunks)
    first = next(chunks).choices[0].delta.content
    chunks.close()
    return first


def responses_stream() -> list[str]:
    events = client.responses.create(model="any", input="responses stream", stream=True)
    return [event.delta for event in events if event.type == "response.output_text.delta"]


report(
    {
        "models": lambda: [model.id for model in client.models.list()],
        "chat": lambda: chat("chat"),
        "stream": stream,
        "turns": lambda: chat("", messages=[{"role": "system", "content": SYSTEM}, *TURNS]),
        "stop": lambda: chat("stop", stop=[" world"]),
        "length": lambda: chat("length", max_tokens=1),
        "sampling": lambda: chat("sampling", temperature=0.5, seed=7),
        "refused": lambda: chat("refused", temperature=1000),
        "away": lambda: chat("away", at(AWAY)),
        "key": lambda: chat("key", at(LOCKED, KEY)),
        "wrong key": lambda: chat("wrong key", at(LOCKED)),
        "cancel": cancel,
        "completion": lambda: (
            client.completions.create(model="any", prompt="completion").choices[0].text
        ),
        "responses": lambda: client.responses.create(model="any", input="responses").output_text,
        "responses stream": responses_stream,
    },
    "openai",
)
