"""LangChain over `langchain-openai`."""

from __future__ import annotations

from langchain_openai import ChatOpenAI, OpenAI
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


def called(calls: list) -> list:
    return [[call["name"], call["args"]] for call in calls]


def tools(content: str = "tools", **fields) -> dict:
    model = at(CALLS, **fields).bind_tools(TOOLS)
    turns = [{"role": "user", "content": content}]
    said = model.invoke(turns)
    result = {"role": "tool", "tool_call_id": said.tool_calls[0]["id"], "content": content}
    return {"calls": called(said.tool_calls), "answer": model.invoke([*turns, said, result]).text}


def tools_stream() -> list:
    parts = list(at(CALLS).bind_tools(TOOLS).stream("tools stream"))
    whole = parts[0]
    for part in parts[1:]:
        whole += part
    return called(whole.tool_calls)


def parse(content: str = "parse", **fields) -> dict:
    form = {"title": "pet", **PET}
    model = at(FORMS, **fields).with_structured_output(form, method="json_schema")
    return model.invoke(content)


def complete(content: str) -> str:
    model = OpenAI(base_url=f"{AGENT}/v1", api_key="any", model="any", max_retries=0)
    return model.invoke(content)


def responses_stream() -> list[str]:
    parts = at(AGENT, use_responses_api=True).stream("responses stream")
    return [part.text for part in parts]


def logprobs() -> dict:
    answer = at(FORMS, max_tokens=5, temperature=0, logprobs=True, top_logprobs=2).invoke(
        "logprobs"
    )
    content = answer.response_metadata["logprobs"]["content"]
    tokens = [[token["token"], token["logprob"]] for token in content]
    most = [len(token["top_logprobs"]) for token in content]
    return {"text": answer.content, "tokens": tokens, "top": most}


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
        "tools": tools,
        "tools stream": tools_stream,
        "forced": lambda: called(
            at(FORMS).bind_tools(TOOLS, tool_choice="required").invoke("forced").tool_calls
        ),
        "parse": parse,
        "logprobs": logprobs,
        "responses tools": lambda: tools("responses tools", use_responses_api=True),
        "completion": lambda: complete("completion"),
        "responses stream": responses_stream,
        "responses parse": lambda: parse("responses parse", use_responses_api=True),
        "responses": lambda: at(AGENT, use_responses_api=True).invoke("responses").text,
    },
    "langchain-openai",
)
