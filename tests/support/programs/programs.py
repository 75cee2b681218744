"""A verifier and agents in processes of their own, to be killed, stopped and started again."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from shared.config.secrets import NUM_SECRET_BYTES
from tests.support.programs.command import AGENT, VERIFIER
from tests.support.programs.ports import free_port
from tests.support.programs.serving_program import ServingProgram
from verifier.server.device_tokens import new_token


class Programs:
    """Makes programs with the settings that they need of each other; stops all at the end."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._tokens = directory / "tokens"
        self._tokens.touch(0o600)
        self._made: list[ServingProgram] = []

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
        environment: Mapping[str, str] | None = None,
        *,
        options: Sequence[str] = (),
    ) -> ServingProgram:
        """A verifier that is not started yet; it will know the devices of `token_file`."""
        port = free_port()
        own = {
            "server.port": port,
            "server.tokens_file": str(self._tokens),
            "target.device": "cpu",
            "rounds.prefix_sharing": "off",  # or a prompt that comes again would be read by then
            **(settings or {}),
        }
        started = (*launcher, "run", *options)
        return self._program(started, own, port, {"status": "ok"}, "verifier", cores, environment)

    def agent(
        self,
        url: str,
        token_file: Path,
        launcher: Sequence[str] = AGENT,
        settings: Mapping[str, object] | None = None,
        cores: set[int] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> ServingProgram:
        """An agent that is not started yet."""
        port = free_port()
        own = {
            "verifier.url": url,
            "verifier.token_file": str(token_file),
            "api.port": port,
            **(settings or {}),
        }
        ready = {"status": "ok", "verifier_connected": True}
        name = token_file.name.removeprefix("token-")
        return self._program((*launcher, "run"), own, port, ready, name, cores, environment)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End all of them, agents first, each while the next is already about to end.

        Raises:
            ProgramFailed: one did not end in time, and was killed.
        """
        with ExitStack() as stack:
            for program in self._made:
                stack.callback(program.stop)
            for program in reversed(self._made):
                program.ask_to_stop()

    def _program(
        self,
        started: Sequence[str],
        settings: Mapping[str, object],
        port: int,
        ready: Mapping[str, object],
        name: str,
        cores: set[int] | None,
        environment: Mapping[str, str] | None,
    ) -> ServingProgram:
        given = (f"--set={key}={json.dumps(value)}" for key, value in settings.items())
        made = ServingProgram(
            name,
            [*started, *given],
            self._directory / f"{len(self._made)}-{name}.log",
            port=port,
            ready=ready,
            cores=cores,
            settings=environment,
            speaks_tls="server.certificate_file" in settings,
        )
        self._made.append(made)
        return made
