"""curl, as in the examples of people's own scripts."""

from __future__ import annotations

import json
import re
import subprocess
import sys

from report import AGENT, AWAY, KEY, LOCKED, SLOW, SYSTEM, TURNS, report


def curl(*arguments: str) -> str:
    return subprocess.run(
        ["curl", "--silent", "--show-error", "--max-time", "60", *arguments],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def post(url: str, fields: dict, *arguments: str) -> dict:
    answer = json.loads(curl(url, "--json", json.dumps(fields), *arguments))
    if "error" in answer:
        raise RuntimeError(answer["error"]["message"])
    return answer


def ask(content: str, url: str = AGENT, key: str = "any", **fields) -> str:
    asked = {"messages": [{"role": "user", "content": content}], **fields}
    bearer = ("--header", f"Authorization: Bearer {key}")
    answer = post(f"{url}/v1/chat/completions", asked, *bearer)
    return answer["choices"][0]["message"]["content"]


def events(url: str, content: str, *arguments: str) -> list[str]:
    asked = {"messages": [{"role": "user", "content": content}], "stream": True}
    told = curl(
        f"{url}/v1/chat/completions", "--no-buffer", "--json", json.dumps(asked), *arguments
    )
    lines = re.findall(r"^data: (\{.*)$", told, re.MULTILINE)
    return [json.loads(line)["choices"][0]["delta"].get("content") or "" for line in lines]


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
    rest = events(AGENT, "resume", "--header", f"Last-Event-ID: {last_id}")
    return ["Hello", *rest]


models = f"{AGENT}/v1/models"
version = curl("--version").split()[1]
sys.stderr.write(f"curl {version}\n")
report(
    {
        "models": lambda: [model["id"] for model in json.loads(curl(models))["data"]],
        "chat": lambda: ask("chat"),
        "stream": lambda: events(AGENT, "stream"),
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
        "completion": lambda: post(f"{AGENT}/v1/completions", {"prompt": "completion"})["choices"][
            0
        ]["text"],
    },
)
