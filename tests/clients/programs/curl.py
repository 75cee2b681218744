"""curl, as in the examples of people's own scripts."""

from __future__ import annotations

import json
import re
import subprocess
import sys

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
    WEATHER,
    report,
)


def curl(*arguments: str) -> str:
    return subprocess.run(
        ["curl", "--silent", "--show-error", "--max-time", "60", *arguments],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def post(url: str, fields: dict, *arguments: str) -> dict:
    answer = json.loads(curl(url, "--json", json.dumps(fields), *arguments))
    if answer.get("error"):
        raise RuntimeError(answer["error"]["message"])
    return answer


def ask(content: str, url: str = AGENT, key: str = "any", **fields) -> str:
    asked = {"messages": [{"role": "user", "content": content}], **fields}
    bearer = ("--header", f"Authorization: Bearer {key}")
    answer = post(f"{url}/v1/chat/completions", asked, *bearer)
    return answer["choices"][0]["message"]["content"]


def events(url: str, asked: dict, *arguments: str) -> list[dict]:
    """What an address tells in a stream."""
    fields = json.dumps({**asked, "stream": True})
    told = curl(url, "--no-buffer", "--json", fields, *arguments)
    return [json.loads(line) for line in re.findall(r"^data: (\{.*)$", told, re.MULTILINE)]


def deltas(content: str, *arguments: str, url: str = AGENT, **fields) -> list[dict]:
    asked = {"messages": [{"role": "user", "content": content}], **fields}
    told = events(f"{url}/v1/chat/completions", asked, *arguments)
    return [chunk["choices"][0]["delta"] for chunk in told]


def pieces(content: str, *arguments: str) -> list[str]:
    return [delta.get("content") or "" for delta in deltas(content, *arguments)]


def cancel() -> str:
    asked = {"messages": [{"role": "user", "content": "cancel"}], "stream": True}
    address = f"{SLOW}/v1/chat/completions"
    with subprocess.Popen(
        ["curl", "--silent", "--no-buffer", address, "--json", json.dumps(asked)],
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        for line in client.stdout:
            if "Hello" in line:
                client.kill()
                return "Hello"
    return ""


def resume() -> list[str]:
    """A stream that is cut off in the middle and taken up again by the id of its last event."""
    asked = {"messages": [{"role": "user", "content": "resume"}], "stream": True}
    arguments = ["--no-buffer", "--json", json.dumps(asked), f"{AGENT}/v1/chat/completions"]
    head = ["curl", "--silent", "--header", "Accept: text/event-stream", *arguments]
    last_id = ""
    with subprocess.Popen(head, stdout=subprocess.PIPE, text=True) as client:
        for line in client.stdout:
            if line.startswith("id: "):
                last_id = line.removeprefix("id: ").strip()
            if "Hello" in line:
                client.kill()
                break
    rest = pieces("resume", "--header", f"Last-Event-ID: {last_id}")
    return ["Hello", *rest]


def message(content: str, url: str, **fields) -> dict:
    asked = {"messages": [{"role": "user", "content": content}], **fields}
    return post(f"{url}/v1/chat/completions", asked)["choices"][0]["message"]


def called(calls: list) -> list:
    functions = [call["function"] for call in calls]
    return [[function["name"], json.loads(function["arguments"])] for function in functions]


def tools() -> dict:
    said = message("tools", CALLS, tools=TOOLS)
    result = {"role": "tool", "tool_call_id": said["tool_calls"][0]["id"], "content": "tools"}
    turns = [{"role": "user", "content": "tools"}, said, result]
    answer = message("", CALLS, messages=turns, tools=TOOLS)["content"]
    return {"calls": called(said["tool_calls"]), "answer": answer}


def tools_stream() -> list:
    told = [delta.get("tool_calls") for delta in deltas("tools stream", url=CALLS, tools=TOOLS)]
    functions = [calls[0]["function"] for calls in told if calls]
    name = "".join(function.get("name") or "" for function in functions)
    return [[name, json.loads("".join(function["arguments"] for function in functions))]]


def forced() -> list:
    asked = {"tools": TOOLS, "tool_choice": "required"}
    return called(message("forced", FORMS, **asked)["tool_calls"])


def parse() -> dict:
    form = {"type": "json_schema", "json_schema": {"name": "pet", "schema": PET}}
    return json.loads(message("parse", FORMS, response_format=form)["content"])


def logprobs() -> dict:
    asked = {"messages": [{"role": "user", "content": "logprobs"}], "max_tokens": 5}
    asked |= {"temperature": 0, "logprobs": True, "top_logprobs": 2}
    (choice,) = post(f"{FORMS}/v1/chat/completions", asked)["choices"]
    return scored(choice["message"]["content"], choice["logprobs"]["content"])


def scored(text: str, told: list) -> dict:
    tokens = [[token["token"], token["logprob"]] for token in told]
    return {"text": text, "tokens": tokens, "top": [len(token["top_logprobs"]) for token in told]}


def respond(url: str, **fields) -> list[dict]:
    return post(f"{url}/v1/responses", fields)["output"]


def responses_stream() -> list[str]:
    told = events(f"{AGENT}/v1/responses", {"input": "responses stream"})
    return [event["delta"] for event in told if event["type"] == "response.output_text.delta"]


def responses_tools() -> dict:
    offered = [{"type": "function", **WEATHER}]
    said = respond(CALLS, input="responses tools", tools=offered)
    calls = [item for item in said if item["type"] == "function_call"]
    told = {"call_id": calls[0]["call_id"], "output": "responses tools"}
    turns = [*said, {"type": "function_call_output", **told}]
    turns.insert(0, {"role": "user", "content": "responses tools"})
    answer = respond(CALLS, input=turns, tools=offered)[-1]["content"][0]["text"]
    return {
        "calls": [[call["name"], json.loads(call["arguments"])] for call in calls],
        "answer": answer,
    }


def responses_parse() -> dict:
    form = {"format": {"type": "json_schema", "name": "pet", "schema": PET}}
    return json.loads(respond(FORMS, input="responses parse", text=form)[0]["content"][0]["text"])


def responses_logprobs() -> dict:
    asked = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    asked |= {"input": "responses logprobs", "max_output_tokens": 5, "temperature": 0}
    (part,) = respond(FORMS, **asked)[0]["content"]
    return scored(part["text"], part["logprobs"])


models = f"{AGENT}/v1/models"
version = curl("--version").split()[1]
sys.stderr.write(f"curl {version}\n")
report(
    {
        "models": lambda: [model["id"] for model in json.loads(curl(models))["data"]],
        "chat": lambda: ask("chat"),
        "stream": lambda: pieces("stream"),
        "turns": lambda: ask("", messages=[{"role": "system", "content": SYSTEM}, *TURNS]),
        "stop": lambda: ask("stop", stop=" world"),
        "length": lambda: ask("length", max_tokens=1),
        "sampling": lambda: ask("sampling", temperature=0.5, seed=7),
        "refused": lambda: ask("refused", temperature=1000),
        "away": lambda: ask("away", AWAY),
        "key": lambda: ask("key", LOCKED, KEY),
        "wrong key": lambda: ask("wrong key", LOCKED),
        "cancel": cancel,
        "resume": resume,
        "tools": tools,
        "tools stream": tools_stream,
        "forced": forced,
        "thoughts": lambda: message("thoughts", CALLS)["reasoning_content"],
        "parse": parse,
        "logprobs": logprobs,
        "responses": lambda: respond(AGENT, input="responses")[0]["content"][0]["text"],
        "responses stream": responses_stream,
        "responses tools": responses_tools,
        "responses parse": responses_parse,
        "responses logprobs": responses_logprobs,
        "tokens": lambda: post(f"{FORMS}/tokenize", {"prompt": "one"})["count"],
        "completion": lambda: post(f"{AGENT}/v1/completions", {"prompt": "completion"})["choices"][
            0
        ]["text"],
    },
)
