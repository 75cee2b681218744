"""`goodspeed-verifier devices` beside a running verifier, over real sockets."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from shared.protocol.messages import ErrorCode, Open, Verdict
from tests.support.ends.loopback import Verifier, make_server
from tests.support.ends.raw_board import RawBoard, raw_board
from tests.support.ends.scripted import scripted_service
from tests.support.programs.ports import free_port
from tests.support.programs.program import Program
from tests.verifier.test_cli import SCRIPTED
from verifier.cli import main
from verifier.engine.device_terms import FILE_NAME, read_terms


class House:
    """Settings, tokens and state of one verifier."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state"
        self.port = free_port()
        tokens = directory / "tokens"
        self.settings = directory / "verifier.toml"
        self.settings.write_text(
            f'[server]\nport = {self.port}\ntokens_file = "{tokens}"\n'
            f'[state]\ndirectory = "{self.state}"\n'
        )
        fixed = ["--tokens-file", str(tokens)]
        self.tokens = {
            name: CliRunner().invoke(main, ["token", "add", name, *fixed]).stdout.strip()
            for name in ("garage", "kitchen")
        }

    def devices(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, ["devices", *arguments, "--config", str(self.settings)])

    def listed(self) -> dict[str, dict[str, object]]:
        report = json.loads(self.devices("ls", "--json").stdout)
        return {device["name"]: device for device in report["devices"]}


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture
def running(house: House, tmp_path: Path) -> Iterator[House]:
    arguments = [sys.executable, "-c", SCRIPTED, "run", "--config", str(house.settings)]
    with Program("verifier", arguments, tmp_path / "log") as program:
        program.line_with("serving")
        yield house


def test_what_is_set_is_listed_and_kept_where_no_verifier_runs(house: House) -> None:
    for arguments in (
        ("pause", "kitchen"),
        ("weight", "garage", "2.5"),
        ("cap", "garage", "4"),
        ("slo", "garage", "0.1"),
        ("rename", "garage", "by the door"),
    ):
        assert 0 == house.devices(*arguments).exit_code, arguments
    result = house.devices("ls")
    kitchen, garage = (
        next(line for line in result.stdout.splitlines() if line.startswith(name))
        for name in ("kitchen", "garage")
    )
    assert "paused" in kitchen
    assert "garage (by the door)" in garage
    assert "weight 2.5, cap 4, slo 0.1 s" in garage
    assert f"live figures are missing: no verifier answers at 127.0.0.1:{house.port}" in (
        result.stderr
    )
    house.devices("resume", "kitchen")
    house.devices("weight", "garage", "1")
    house.devices("cap", "garage", "none")
    house.devices("slo", "garage", "usual")
    house.devices("rename", "garage", "")
    assert {} == read_terms(house.state / FILE_NAME).by_device


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("pause", "cellar"), 78, "no device cellar"),
        (("weight", "kitchen", "0"), 2, "0.001<=x<=1000"),
        (("cap", "kitchen", "many"), 2, "must be from 0 to 64, or none"),
        (("cap", "kitchen", "65"), 2, "must be from 0 to 64, or none"),
        (("slo", "kitchen", "soon"), 2, "must be from 0 to 600, or usual"),
        (("slo", "kitchen", "nan"), 2, "must be from 0 to 600, or usual"),
        (("rename", "kitchen", "a\nb"), 2, "must be up to 80 printable characters"),
        (("rename", "kitchen", "x" * 81), 2, "must be up to 80 printable characters"),
    ],
)
def test_what_is_wrong_is_said_and_changes_nothing(
    arguments: tuple[str, ...], code: int, words: str, house: House
) -> None:
    result = house.devices(*arguments)
    assert code == result.exit_code
    assert words in result.stderr
    assert not (house.state / FILE_NAME).exists()


def test_without_a_directory_of_state_nothing_can_be_set(house: House) -> None:
    house.settings.write_text(house.settings.read_text().split("[state]")[0])
    result = house.devices("pause", "kitchen")
    assert 78 == result.exit_code
    assert "state.directory: must be set" in result.stderr
    assert 0 == house.devices("ls").exit_code


def test_rounds_that_wait_for_every_board_promise_nothing(house: House) -> None:
    with house.settings.open("a") as settings:
        settings.write("[rounds]\nbarrier = true\n")
    result = house.devices("slo", "kitchen", "0.1")
    assert 78 == result.exit_code
    assert "rounds.barrier: no token can be promised" in result.stderr
    assert not (house.state / FILE_NAME).exists()
    assert 0 == house.devices("slo", "kitchen", "0").exit_code
    assert 0 == house.devices("slo", "kitchen", "usual").exit_code
    assert 0 == house.devices("weight", "kitchen", "2").exit_code


async def next_verdict(board: RawBoard, seconds: float) -> Verdict | None:
    """None: none comes within so long."""
    try:
        async with asyncio.timeout(seconds):
            return await board.next_of(Verdict)
    except TimeoutError:
        return None


async def until_silent(board: RawBoard) -> None:
    """Read until no verdict has come for half a second, ten seconds at most."""
    async with asyncio.timeout(10):
        while await next_verdict(board, 0.5) is not None:
            pass


def test_a_device_is_paused_and_resumed_while_it_streams(running: House) -> None:
    async def scene() -> None:
        service = scripted_service()
        server = make_server(service, {})
        verifier = Verifier(service, server, running.port, running.tokens)
        async with raw_board(verifier, "kitchen") as board, raw_board(verifier, "garage") as other:
            await board.open(max_tokens=10**6, draft_length=0)
            await other.open(max_tokens=10**6, draft_length=0)
            reading = asyncio.create_task(other.next_of(type(None)))  # type: ignore[type-var]
            await asyncio.to_thread(running.devices, "pause", "kitchen")
            await until_silent(board)
            listed = await asyncio.to_thread(running.listed)
            kitchen, garage = listed["kitchen"]["live"], listed["garage"]["live"]
            assert isinstance(kitchen, dict)
            assert isinstance(garage, dict)
            assert (True, 1) == (kitchen["is_connected"], kitchen["num_streams"])
            assert "an operator paused this device" in kitchen["idle_sentence"]
            assert garage["goodput_tokens_per_second"] > 0
            assert not reading.done()
            await asyncio.to_thread(running.devices, "resume", "kitchen")
            assert await next_verdict(board, 10) is not None
            reading.cancel()
            await asyncio.wait([reading])

    asyncio.run(scene())


def test_a_pause_outlives_a_restart(house: House, tmp_path: Path) -> None:
    house.devices("pause", "kitchen")

    async def scene() -> None:
        service = scripted_service()
        verifier = Verifier(service, make_server(service, {}), house.port, house.tokens)
        async with raw_board(verifier, "kitchen") as board:
            await board.send(Open(channel=0, stream_id=0, text="a prompt", max_tokens=50))
            assert (await board.error(0)).code == ErrorCode.PAUSED

    arguments = [sys.executable, "-c", SCRIPTED, "run", "--config", str(house.settings)]
    with Program("verifier", arguments, tmp_path / "log") as program:
        program.line_with("serving")
        asyncio.run(scene())
