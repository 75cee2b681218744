"""The command line `llm`, with the board in its file of OpenAI-like models."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from report import AGENT, AWAY, KEY, LOCKED, SYSTEM, report

home = tempfile.TemporaryDirectory()
environment = {**os.environ, "LLM_USER_PATH": home.name}
models = [("agent", AGENT), ("away", AWAY), ("locked", LOCKED)]
lines = "".join(
    f"- model_id: {name}\n  model_name: any\n  api_base: {url}/v1\n  api_key_name: {name}\n"
    for name, url in models
)
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
        "key": lambda: ask("key", "locked", KEY),
        "wrong key": lambda: ask("wrong key", "locked"),
    },
    "llm",
)
