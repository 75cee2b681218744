"""LlamaIndex over `llama-index-llms-openai-like`."""

from __future__ import annotations

from typing import Literal

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel, Field
from report import AGENT, AWAY, CALLS, FORMS, KEY, LOCKED, SLOW, SYSTEM, TURNS, report


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


class Pet(BaseModel, extra="forbid"):
    kind: Literal["cat", "dog"]
    age: int = Field(ge=0, le=30)


class Place(BaseModel, extra="forbid"):
    city: Literal["Paris", "Rome"]


def get_weather(city: str) -> str:
    """How the weather is."""
    return "tools"


OFFERED = [FunctionTool.from_defaults(get_weather, fn_schema=Place)]


def called(model: OpenAILike, answer: object) -> list:
    return [
        [call.tool_name, call.tool_kwargs] for call in model.get_tool_calls_from_response(answer)
    ]


def tools() -> dict:
    model = at(CALLS, is_function_calling_model=True)
    turns = [ChatMessage(role="user", content="tools")]
    said = model.chat_with_tools(OFFERED, chat_history=turns)
    (call,) = model.get_tool_calls_from_response(said)
    result = ChatMessage(role="tool", content=get_weather(**call.tool_kwargs))
    result.additional_kwargs["tool_call_id"] = call.tool_id
    again = model.chat_with_tools(OFFERED, chat_history=[*turns, said.message, result])
    return {"calls": called(model, said), "answer": again.message.content}


def tools_stream() -> list:
    model = at(CALLS, is_function_calling_model=True)
    *_, whole = model.stream_chat_with_tools(OFFERED, "tools stream")
    return called(model, whole)


def forced() -> list:
    model = at(FORMS, is_function_calling_model=True)
    return called(model, model.chat_with_tools(OFFERED, "forced", tool_required=True))


def cancel() -> str:
    parts = at(SLOW).stream_chat([ChatMessage(role="user", content="cancel")])
    first = next(part.delta for part in parts if part.delta)
    parts.close()
    return first


def logprobs() -> dict:
    """It tells the likeliest tokens alone, of which a greedy answer is made."""
    model = at(FORMS, max_tokens=5, temperature=0, logprobs=True, top_logprobs=2)
    answer = model.chat([ChatMessage(role="user", content="logprobs")])
    tokens = [[top[0].token, top[0].logprob] for top in answer.logprobs]
    most = [len(top) for top in answer.logprobs]
    return {"text": answer.message.content, "tokens": tokens, "top": most}


def parse() -> dict:
    model = at(FORMS, is_function_calling_model=True).as_structured_llm(Pet)
    return model.chat([ChatMessage(role="user", content="parse")]).raw.model_dump()


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
        "tools": tools,
        "tools stream": tools_stream,
        "forced": forced,
        "parse": parse,
        "logprobs": logprobs,
        "cancel": cancel,
        "completion": lambda: (
            OpenAILike(model="any", api_base=f"{AGENT}/v1", api_key="any", is_chat_model=False)
            .complete("completion")
            .text
        ),
    },
    "llama-index-llms-openai-like",
)
