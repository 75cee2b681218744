"""On a terminal both programs show their own lines at their start, and none of a library."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.models.tiny_gguf import write_tiny_llama
from tests.support.programs.command import AGENT, ROOT, VERIFIER, environment

_LINE = re.compile(r"\d\d:\d\d:\d\d (INFO|WARNING) +\S.*")
_SECONDS = 120.0


def shown(command: Sequence[str], until: str) -> list[str]:
    """The lines on a terminal until one holds the words, and to the end after SIGTERM."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(ROOT)
        os.execve(command[0], list(command), environment())
    text, deadline, is_asked = b"", time.monotonic() + _SECONDS, False
    try:
        while time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.1)[0]:
                try:
                    piece = os.read(terminal, 65_536)
                except OSError:  # of a terminal that its program has left
                    break
                text += piece
            if until.encode() in text and not is_asked:
                os.kill(process, signal.SIGTERM)
                is_asked = True
    finally:
        if not is_asked:
            os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(terminal)
    assert is_asked, text.decode()
    return text.decode().splitlines()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    write_tiny_llama(path)
    return path


def test_a_verifier_says_only_what_is_its_own(tmp_path: Path, model: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.touch(0o600)
    settings = {
        "server.port": 0,
        "server.tokens_file": tokens,
        "target.model": model,
        "target.device": "cpu",
        "target.context_tokens": 128,
        "target.kv_cache_tokens": 2048,
    }
    given = [f"--set={key}={value}" for key, value in settings.items()]
    lines = shown([*VERIFIER, "run", *given], "memory: ")
    assert [] == [line for line in lines if not _LINE.fullmatch(line)]
    assert lines[0].endswith(f"loading {model}")


def test_an_agent_says_only_what_is_its_own(model: Path) -> None:
    settings = {
        "verifier.url": "ws://127.0.0.1:1",
        "verifier.token": f"gsd_kitchen_{'A' * 43}",
        "draft.model": model,
        "draft.context_tokens": 128,
        "api.port": 0,
    }
    given = [f"--set={key}={value}" for key, value in settings.items()]
    lines = shown([*AGENT, "run", *given], "trying again")
    assert [] == [line for line in lines if not _LINE.fullmatch(line)]
    assert lines[0].endswith(f"loading {model}")
