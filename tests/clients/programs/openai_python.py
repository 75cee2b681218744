"""OpenAI's Python client: chats, completions, responses."""

from __future__ import annotations

import json
from typing import Literal

from openai import OpenAI
from pydantic import BaseModel, Field
from report import (
    AGENT,
    AWAY,
    CALLS,
    FORMS,
    KEY,
    LOCKED,
    SLOW,
    SYSTEM,
    TOOLS,
    TURNS,
    WEATHER,
    report,
)


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


class Pet(BaseModel, extra="forbid"):
    kind: Literal["cat", "dog"]
    age: int = Field(ge=0, le=30)


def user(content: str) -> list:
    return [{"role": "user", "content": content}]


def called(calls: list) -> list:
    return [[call.function.name, json.loads(call.function.arguments)] for call in calls]


def tools() -> dict:
    create = at(CALLS).chat.completions.create
    said = create(model="any", messages=user("tools"), tools=TOOLS).choices[0].message
    result = {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": "tools"}
    turns = [*user("tools"), said.model_dump(exclude_none=True), result]
    answer = create(model="any", messages=turns, tools=TOOLS).choices[0].message.content
    return {"calls": called(said.tool_calls), "answer": answer}


def tools_stream() -> list:
    asked = {"model": "any", "messages": user("tools stream"), "tools": TOOLS}
    with at(CALLS).chat.completions.stream(**asked) as stream:
        return called(stream.get_final_completion().choices[0].message.tool_calls)


def forced() -> list:
    chosen = {"type": "function", "function": {"name": "get_weather"}}
    asked = {"model": "any", "messages": user("forced"), "tools": TOOLS, "tool_choice": chosen}
    return called(at(FORMS).chat.completions.create(**asked).choices[0].message.tool_calls)


def thoughts() -> str:
    answer = at(CALLS).chat.completions.create(model="any", messages=user("thoughts"))
    return answer.choices[0].message.reasoning_content


def parse() -> dict:
    asked = {"model": "any", "messages": user("parse"), "response_format": Pet}
    return at(FORMS).chat.completions.parse(**asked).choices[0].message.parsed.model_dump()


def logprobs() -> dict:
    asked = {"max_tokens": 5, "temperature": 0, "logprobs": True, "top_logprobs": 2}
    answer = at(FORMS).chat.completions.create(model="any", messages=user("logprobs"), **asked)
    (choice,) = answer.choices
    tokens = [[token.token, token.logprob] for token in choice.logprobs.content]
    most = [len(token.top_logprobs) for token in choice.logprobs.content]
    return {"text": choice.message.content, "tokens": tokens, "top": most}


def responses_tools() -> dict:
    create, offered = at(CALLS).responses.create, [{"type": "function", **WEATHER}]
    said = create(model="any", input="responses tools", tools=offered).output
    calls = [item for item in said if item.type == "function_call"]
    told = {"call_id": calls[0].call_id, "output": "responses tools"}
    turns = [*user("responses tools"), *said, {"type": "function_call_output", **told}]
    answer = create(model="any", input=turns, tools=offered).output_text
    return {"calls": [[call.name, json.loads(call.arguments)] for call in calls], "answer": answer}


def responses_parse() -> dict:
    answer = at(FORMS).responses.parse(model="any", input="responses parse", text_format=Pet)
    return answer.output_parsed.model_dump()


def responses_logprobs() -> dict:
    asked = {"max_output_tokens": 5, "temperature": 0, "top_logprobs": 2}
    included = ["message.output_text.logprobs"]
    answer = at(FORMS).responses.create(
        model="any", input="responses logprobs", include=included, **asked
    )
    (part,) = answer.output[0].content
    tokens = [[token.token, token.logprob] for token in part.logprobs]
    most = [len(token.top_logprobs) for token in part.logprobs]
    return {"text": part.text, "tokens": tokens, "top": most}


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
        "tools": tools,
        "tools stream": tools_stream,
        "forced": forced,
        "thoughts": thoughts,
        "parse": parse,
        "logprobs": logprobs,
        "responses tools": responses_tools,
        "responses parse": responses_parse,
        "responses logprobs": responses_logprobs,
    },
    "openai",
)
