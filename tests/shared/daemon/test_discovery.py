"""A verifier that makes itself known is found, over real multicast on the loopback interface."""

from __future__ import annotations

import asyncio
import io
import socket
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("zeroconf", reason="the extra `discovery`")

import edge_agent.cli
from shared.daemon import discovery
from shared.daemon.discovery import FoundVerifier, advertised, check_discovery, find_verifiers
from shared.errors import ConfigError
from tests.support.programs.ports import free_port
from tests.support.programs.program import Program
from tests.support.programs.this_machine import needs_multicast
from tests.verifier.test_cli import SCRIPTED, invoke

LOOPBACK = ("127.0.0.1",)
HOST = f"{socket.gethostname().partition('.')[0]}.local"


@needs_multicast
@pytest.mark.parametrize("speaks_tls", [False, True])
def test_who_looks_finds_name_address_port_and_tls(speaks_tls: bool) -> None:
    async def scene() -> list[FoundVerifier]:
        async with advertised("127.0.0.1", 8443, speaks_tls=speaks_tls):
            return await find_verifiers(interfaces=LOOPBACK)

    found = FoundVerifier(HOST, "127.0.0.1", 8443, speaks_tls)
    assert [found] == asyncio.run(scene())
    assert ("wss" if speaks_tls else "ws") + "://127.0.0.1:8443" == found.url


@needs_multicast
def test_one_that_has_ended_is_not_found() -> None:
    async def scene() -> list[FoundVerifier]:
        async with advertised("127.0.0.1", 8443, speaks_tls=False):
            pass
        return await find_verifiers(0.5, LOOPBACK)

    assert [] == asyncio.run(scene())


def test_without_the_library_the_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"server\.advertise: takes a package: pip install"):
        check_discovery("server.advertise")


@needs_multicast
def test_init_says_what_a_running_verifier_advertises_and_trusts_it_with_nothing(
    tmp_path: Path,
) -> None:
    tokens, port = tmp_path / "tokens", free_port()
    token = invoke("token", "add", "kitchen", "--tokens-file", tokens).stdout
    fixed = ("server.advertise=true", f"server.port={port}", f"server.tokens_file={tokens}")
    options = [word for setting in fixed for word in ("--set", setting)]
    command = [sys.executable, "-c", SCRIPTED, "run", *options]
    with Program("verifier", command, tmp_path / "log") as program:
        program.line_with("serving")
        arguments = ["init", "--token", "-", "--directory", str(tmp_path / "board")]
        result = CliRunner().invoke(edge_agent.cli.main, arguments, input=token)
    assert 78 == result.exit_code
    assert f"{HOST} says that a verifier is at ws://127.0.0.1:{port}" in result.stderr
    assert f"if it is yours: ws://127.0.0.1:{port}" in result.stderr
    assert not (tmp_path / "board").exists()


class Terminal(io.StringIO):
    """A person at the other end."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "is_used"), [("y\n", True), ("n\n", False)])
def test_a_person_may_agree_to_what_was_found(
    answer: str, is_used: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def find() -> list[FoundVerifier]:
        return [FoundVerifier("gpu1.local", "192.168.1.10", 8443, True)]

    token = tmp_path / "token"
    token.write_text(f"gsd_kitchen_{'x' * 43}\n")
    token.chmod(0o600)
    monkeypatch.setattr(discovery, "find_verifiers", find)
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    settings = tmp_path / "board" / "agent.toml"
    arguments = ["init", "--token", str(token), "--directory", str(settings.parent)]
    with pytest.raises(SystemExit) as ended:
        edge_agent.cli.main(arguments)
    assert (0 if is_used else 78) == ended.value.code
    assert is_used == settings.exists()
    assert not is_used or 'url = "wss://192.168.1.10:8443"' in settings.read_text()
