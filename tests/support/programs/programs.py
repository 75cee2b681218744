"""A verifier and agents in processes of their own, to be killed, stopped and started again."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from shared.config.secrets import NUM_SECRET_BYTES
from tests.support.programs.processes import ROOT, environment
from verifier.server.device_tokens import new_token

START_SECONDS = 180.0
STOP_SECONDS = 30.0
VERIFIER = (str(Path(sys.executable).with_name("goodspeed-verifier")),)
AGENT = (str(Path(sys.executable).with_name("goodspeed-agent")),)


class Program:
    """One program on one port, the same one after every start."""

    def __init__(
        self,
        arguments: Sequence[str],
        settings: Mapping[str, object],
        *,
        port: int,
        ready: Mapping[str, object],
        log: Path,
        cores: set[int] | None = None,
    ) -> None:
        self.port = port
        self.log = log
        given = (f"--set={key}={json.dumps(value)}" for key, value in settings.items())
        self._command = [sys.executable, *arguments, "run", *given]
        self._ready = ready
        self._cores = cores
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it without waiting for anything."""
        assert not self.is_running
        cores = self._cores

        def prepare() -> None:
            if cores is not None:
                os.sched_setaffinity(0, cores)

        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env=environment(), stderr=log, preexec_fn=prepare
            )

    def wait(self) -> None:
        """Return when it is ready."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.is_running:
            if self._ready.items() <= (self.health() or {}).items():
                return
            time.sleep(0.02)
        raise AssertionError(f"{self._command[:4]} is not ready:\n{self.log.read_text()}")

    def health(self) -> dict[str, Any] | None:
        """What it says of itself, None while it does not answer."""
        try:
            with urllib.request.urlopen(self.url("/healthz"), timeout=2) as answer:
                said: dict[str, Any] = json.load(answer)
        except OSError:
            return None
        return said

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def metrics(self) -> dict[str, float]:
        """Its metrics by name and labels."""
        with urllib.request.urlopen(self.url("/metrics"), timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it as the kernel does: no goodbye, no clean-up."""
        self.send(signal.SIGKILL)
        assert self._process is not None
        self._process.wait(STOP_SECONDS)

    def stop(self) -> None:
        """End it as a person does."""
        if self._process is None or not self.is_running:
            return
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


class Programs:
    """Makes programs with the settings that they need of each other; stops all at the end."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._tokens = directory / "tokens"
        self._tokens.touch(0o600)
        self._made: list[Program] = []

    def token_file(self, device: str) -> Path:
        """A file with a new device's token; verifiers that start from now on know it."""
        token, line = new_token(device, secrets.token_bytes(NUM_SECRET_BYTES))
        with self._tokens.open("a") as tokens:
            tokens.write(line + "\n")
        path = self._directory / f"token-{device}"
        path.touch(0o600)
        path.write_text(token)
        return path

    def verifier(
        self,
        launcher: Sequence[str] = VERIFIER,
        settings: Mapping[str, object] | None = None,
        cores: set[int] | None = None,
    ) -> Program:
        """A verifier that is not started yet; it will know the devices of `token_file`."""
        port = free_port()
        own = {
            "server.port": port,
            "server.tokens_file": str(self._tokens),
            "target.device": "cpu",
            "rounds.prefix_sharing": "off",  # or a prompt that comes again would be read by then
            **(settings or {}),
        }
        return self._program(launcher, own, port, {"status": "ok"}, "verifier", cores)

    def agent(
        self,
        url: str,
        token_file: Path,
        launcher: Sequence[str] = AGENT,
        settings: Mapping[str, object] | None = None,
        cores: set[int] | None = None,
    ) -> Program:
        """An agent that is not started yet."""
        port = free_port()
        own = {
            "verifier.url": url,
            "verifier.token_file": str(token_file),
            "api.port": port,
            **(settings or {}),
        }
        ready = {"status": "ok", "verifier_connected": True}
        return self._program(launcher, own, port, ready, token_file.name, cores)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for program in reversed(self._made):
            program.stop()

    def _program(
        self,
        launcher: Sequence[str],
        settings: Mapping[str, object],
        port: int,
        ready: Mapping[str, object],
        name: str,
        cores: set[int] | None,
    ) -> Program:
        log = self._directory / f"{len(self._made)}-{name}.log"
        made = Program(launcher, settings, port=port, ready=ready, log=log, cores=cores)
        self._made.append(made)
        return made


def free_port() -> int:
    """A port of this host that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
