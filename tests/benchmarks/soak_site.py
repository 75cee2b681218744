"""The processes of a soak: a verifier with TLS, fleets of boards, two agents; what is done to them.

Every method is what an operator does with the programs' own commands and signals.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.network.certificates import Authority, new_key
from tests.support.programs.command import LAUNCHERS, ROOT, environment
from tests.support.programs.ports import free_port
from tests.support.programs.program import Program
from tests.support.programs.serving_program import ServingProgram

VERIFIER_COMMAND = (sys.executable, "-c", "from verifier.cli import main; main()")
FLEET_COMMAND = (sys.executable, "-m", "tests.benchmarks.soak_fleet")
PATIENCE_SECONDS = 200.0  # a soak runs beside other work, which goes first
LEVELS = ("info", "warning")


@dataclass(frozen=True)
class Load:
    """What the boards of a soak do."""

    num_boards: int  # of all fleets together
    num_rotating: int  # of them in the fleet whose tokens change
    round_ms: float
    think_seconds: float


@dataclass
class Site:
    """What runs, and where its files are."""

    directory: Path
    load: Load
    authority: Authority
    verifier: ServingProgram
    agents: dict[str, ServingProgram] = field(default_factory=dict)
    fleets: dict[str, Program] = field(default_factory=dict)
    reports: list[Path] = field(default_factory=list)  # of all fleets that there were
    num_reloads: int = 0

    def token(self, *words: str) -> list[str]:
        """What `goodspeed-verifier token` prints."""
        ended = subprocess.run(
            [*VERIFIER_COMMAND, "token", *words, "--tokens-file", str(self.directory / "tokens")],
            cwd=ROOT,
            env=environment(),
            check=True,
            capture_output=True,
            text=True,
        )
        return ended.stdout.split()

    def reload_verifier(self) -> None:
        """Another level of its log, at SIGHUP."""
        self.num_reloads += 1
        self.write_settings(LEVELS[self.num_reloads % 2])
        self.verifier.send(signal.SIGHUP)

    def reload_verifier_wrongly(self) -> None:
        """Settings that are wrong: all stays as it was."""
        self.write_settings("loud")
        self.verifier.send(signal.SIGHUP)
        self.verifier.line_with("log.level")
        self.write_settings(LEVELS[0])

    def write_settings(self, level: str) -> None:
        path = self.directory / "verifier.toml"
        new = path.with_suffix(".new")
        new.write_text(f'[log]\nlevel = "{level}"\n')
        new.replace(path)

    async def rotate_certificate(self, *, keeps_key: bool) -> None:
        """Return when connections see the new one."""
        before = await asyncio.to_thread(self.shown_certificate)
        key = (self.directory / "server.key").read_text() if keeps_key else new_key()
        self.authority.write("server", key=key)
        self.verifier.send(signal.SIGHUP)
        await asyncio.to_thread(
            self.verifier.wait_for,
            lambda: self.shown_certificate() != before,
            "did not show its new certificate",
        )

    def shown_certificate(self) -> str:
        """What the verifier's port shows now."""
        return ssl.get_server_certificate(("localhost", self.verifier.port))

    async def rotate_token_of_agent(self, name: str) -> None:
        """Take its token away, then give it another; return when it is connected again."""
        agent = self.agents[name]
        await asyncio.to_thread(self.token, "revoke", name)
        (new,) = await asyncio.to_thread(self.token, "add", name)
        (self.directory / f"token-{name}").write_text(new)
        await asyncio.sleep(1.5)  # the verifier looks once a second
        agent.send(signal.SIGHUP)
        await asyncio.to_thread(agent.wait_until_ready)

    async def rotate_fleet(self) -> None:
        """Revoke the tokens of a fleet that is at work, end it, and start one with new tokens."""
        for i in range(1, self.load.num_rotating + 1):
            await asyncio.to_thread(self.token, "revoke", f"passing-{i}")
        await asyncio.sleep(1.5)
        await asyncio.to_thread(self.fleets["passing"].stop, PATIENCE_SECONDS)
        await asyncio.to_thread(self.start_fleet, "passing", self.load.num_rotating)

    def start_fleet(self, name: str, num_boards: int) -> None:
        """Make tokens, and boards that have them."""
        tokens = self.token("add", name, "--count", str(num_boards))
        tokens_file = self.directory / f"fleet-tokens-{len(self.reports)}"
        tokens_file.touch(0o600)
        tokens_file.write_text("\n".join(tokens) + "\n")
        report = self.directory / f"report-{len(self.reports)}.json"
        self.reports.append(report)
        url = f"wss://localhost:{self.verifier.port}"
        command = [
            *(*FLEET_COMMAND, "--json", "--verifier", url, "--tokens", str(tokens_file)),
            *("--think", str(self.load.think_seconds), "--minutes", "10000"),
            *("--seed", str(len(self.reports)), "--ramp-up", str(0.2 * num_boards)),
        ]
        log = self.directory / f"fleet-{len(self.reports)}.log"
        self.fleets[name] = Program(name, command, log, output=report)
        self.fleets[name].start()

    async def restart(self, program: ServingProgram, number: signal.Signals) -> None:
        """End it by this signal, start it again, return when it is ready."""
        if number == signal.SIGKILL:
            await asyncio.to_thread(program.kill)
        else:
            await asyncio.to_thread(program.stop, PATIENCE_SECONDS)
        program.start()
        await asyncio.to_thread(program.wait_until_ready)

    def stop(self) -> None:
        """Fleets first: they report."""
        for program in (*self.fleets.values(), *self.agents.values(), self.verifier):
            program.stop(PATIENCE_SECONDS)


@asynccontextmanager
async def running_site(load: Load, kept: Path | None) -> AsyncIterator[Site]:
    """All of them connected; two agents, one with a scripted draft model, one without any.

    `kept`: an empty directory for all files and logs; they are gone at the end without it.
    """
    with ExitStack() as stack:
        directory = kept or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        authority = Authority(directory)
        os.environ["SSL_CERT_FILE"] = str(authority.file)  # for this process and those it starts
        authority.write("server")
        site = Site(directory, load, authority, _verifier(directory, load))
        stack.callback(site.stop)
        site.write_settings(LEVELS[0])
        for name in ("scripted", "modelless"):
            token_file = directory / f"token-{name}"
            token_file.touch(0o600)
            token_file.write_text(site.token("add", name)[0])
        site.verifier.start()
        await asyncio.to_thread(site.verifier.wait_until_ready)
        for name in ("scripted", "modelless"):
            site.agents[name] = _agent(site, name)
            site.agents[name].start()
            await asyncio.to_thread(site.agents[name].wait_until_ready)
        site.start_fleet("staying", load.num_boards - load.num_rotating)
        site.start_fleet("passing", load.num_rotating)
        yield site


def _verifier(directory: Path, load: Load) -> ServingProgram:
    port = free_port()
    settings = {
        "server.port": port,
        "server.tokens_file": str(directory / "tokens"),
        "server.certificate_file": str(directory / "server.crt"),
        "server.key_file": str(directory / "server.key"),
        "server.max_connections": 2 * load.num_boards + 50,
        "target.device": "cpu",
    }
    pace = f"--round-ms={load.round_ms:g}"
    launcher = (*LAUNCHERS, "verifier", "--scripted", "--knows-all", pace)
    config = ("--config", str(directory / "verifier.toml"))
    command = [*launcher, "run", *config, *_flags(settings)]
    ready = {"status": "ok"}
    log = directory / "verifier.log"
    return ServingProgram("verifier", command, log, port=port, ready=ready, speaks_tls=True)


def _agent(site: Site, name: str) -> ServingProgram:
    port = free_port()
    settings = {
        "verifier.url": f"wss://localhost:{site.verifier.port}",
        "verifier.token_file": str(site.directory / f"token-{name}"),
        "verifier.ca_file": str(site.authority.file),
        "api.port": port,
        "draft.model": "" if name == "modelless" else str(_nothing(site.directory)),
    }
    scripted = () if name == "modelless" else ("--scripted", "--token-ms=5")
    command = [*LAUNCHERS, "agent", *scripted, "run", *_flags(settings)]
    ready = {"status": "ok", "verifier_connected": True}
    return ServingProgram(name, command, site.directory / f"{name}.log", port=port, ready=ready)


def _flags(settings: dict[str, object]) -> list[str]:
    return [f"--set={key}={json.dumps(value)}" for key, value in settings.items()]


def _nothing(directory: Path) -> Path:
    """In place of a model's file, whose size an agent tells; a scripted drafter reads none."""
    path = directory / "scripted.gguf"
    path.touch()
    return path
