"""The command line `llm`, with the board in its file of OpenAI-like models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from report import AGENT, AWAY, CALLS, FORMS, KEY, LOCKED, PET, SYSTEM, report

home = tempfile.TemporaryDirectory()
environment = {**os.environ, "LLM_USER_PATH": home.name}
models = [("agent", AGENT), ("away", AWAY), ("locked", LOCKED)]
models += [("calls", CALLS), ("forms", FORMS)]
lines = "".join(
    f"- model_id: {name}\n  model_name: any\n  api_base: {url}/v1\n  api_key_name: {name}\n"
    "  supports_tools: true\n  supports_schema: true\n"
    for name, url in models
)
lines += f"- model_id: plain\n  model_name: any\n  api_base: {AGENT}/v1\n  completion: true\n"
(Path(home.name) / "extra-openai-models.yaml").write_text(lines)


def llm(*arguments: str, said: str | None = None) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "llm", *arguments],
        input=said,
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )
    if ended.returncode:
        raise RuntimeError(ended.stderr.strip())
    return ended.stdout.rstrip("\n")


def ask(content: str, model: str = "agent", key: str = "any", *options: str) -> str:
    return llm("-m", model, "--key", key, *options, content)


def turns() -> str:
    ask("one", "agent", "any", "-s", SYSTEM)
    return llm("-m", "agent", "--key", "any", "-c", "turns")


def parse() -> dict:
    return json.loads(ask("parse", "forms", "any", "--no-stream", "--schema", json.dumps(PET)))


# What `llm` runs when the model calls it.
FUNCTION = """
import pathlib
def get_weather(city: str) -> str:
    "How the weather is."
    pathlib.Path({said!r}).write_text(city)
    return "tools"
"""


def tools() -> dict:
    said = Path(home.name) / "said"
    program = FUNCTION.format(said=str(said))
    answer = ask("tools", "calls", "any", "--no-stream", "--functions", program)
    return {"calls": [["get_weather", {"city": said.read_text()}]], "answer": answer}


report(
    {
        "chat": lambda: ask("chat", "agent", "any", "--no-stream"),
        "turns": turns,
        "stop": lambda: ask("stop", "agent", "any", "-o", "stop", " world"),
        "length": lambda: ask("length", "agent", "any", "-o", "max_tokens", "1"),
        "sampling": lambda: ask(
            "sampling", "agent", "any", "-o", "temperature", "0.5", "-o", "seed", "7"
        ),
        "refused": lambda: ask("refused", "agent", "any", "-o", "max_tokens", "1000000000000"),
        "away": lambda: ask("away", "away"),
        "tools": tools,
        "parse": parse,
        "completion": lambda: ask("completion", "plain", "any", "--no-stream"),
        "key": lambda: ask("key", "locked", KEY),
        "wrong key": lambda: ask("wrong key", "locked"),
    },
    "llm",
)
