"""A verifier and agents as real processes for benchmarks, with the cores that each may use."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

READY_SECONDS = 180.0


@dataclass(frozen=True)
class Fleet:
    """Addresses of running processes."""

    verifier_port: int
    agent_ports: tuple[int, ...]

    def metrics(self) -> str:
        """The verifier's metrics page."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.verifier_port}/metrics") as answer:
            page: str = answer.read().decode()
        return page


@contextmanager
def fleet(
    drafts: Sequence[str],
    *,
    verifier_settings: Mapping[str, object] | None = None,
    agent_settings: Mapping[str, object] | None = None,
    own_settings: Sequence[Mapping[str, object]] | None = None,
    verifier_cores: set[int] | None = None,
    agent_cores: set[int] | None = None,
    verifier_port: int | None = None,
    agent_nice: int = 0,
) -> Iterator[Fleet]:
    """Start a verifier and one agent for each draft model; stop them at the end.

    `agent_settings` are of all agents, `own_settings` of each of them.
    """
    port = verifier_port or _free_port()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tokens = directory / "tokens"
        board_tokens = [
            _run("verifier", "token", "add", f"board-{i}", "--tokens-file", tokens)
            for i in range(len(drafts))
        ]
        settings = {
            "server.port": port,
            "server.tokens_file": str(tokens),
            "target.device": "cpu",
            "rounds.prefix_sharing": "off",  # or a prompt that comes again would be read by then
            **(verifier_settings or {}),
        }
        stack.enter_context(
            _process("verifier", settings, directory / "verifier.log", verifier_cores)
        )
        _wait(f"http://127.0.0.1:{port}/healthz", "ok", directory / "verifier.log")
        agent_ports = []
        for i, draft in enumerate(drafts):
            agent_port = _free_port()
            token_file = directory / f"token-{i}"
            token_file.touch(0o600)
            token_file.write_text(board_tokens[i])
            own = {
                "verifier.url": f"ws://127.0.0.1:{port}",
                "verifier.token_file": str(token_file),
                "draft.model": draft,
                "api.port": agent_port,
                **(agent_settings or {}),
                **(own_settings[i] if own_settings else {}),
            }
            log = directory / f"agent-{i}.log"
            stack.enter_context(_process("agent", own, log, agent_cores, agent_nice))
            _wait(f"http://127.0.0.1:{agent_port}/v1/models", "smollm2", log)
            agent_ports.append(agent_port)
        yield Fleet(port, tuple(agent_ports))


@contextmanager
def _process(
    program: str, settings: Mapping[str, object], log: Path, cores: set[int] | None, nice: int = 0
) -> Iterator[None]:
    arguments = [f"--set={key}={json.dumps(value)}" for key, value in settings.items()]

    def prepare() -> None:
        os.nice(nice)
        if cores is not None:
            os.sched_setaffinity(0, cores)

    with log.open("w") as file:
        process = subprocess.Popen(
            [_command(program), "run", *arguments], stderr=file, preexec_fn=prepare
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def _run(program: str, *arguments: object) -> str:
    command = [_command(program), *(str(argument) for argument in arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _command(program: str) -> str:
    return str(Path(sys.executable).with_name(f"goodspeed-{program}"))


def _wait(url: str, word: str, log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if word in answer.read().decode().lower():
                    return
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit(f"{url} did not answer within {READY_SECONDS:.0f} s:\n{log.read_text()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
