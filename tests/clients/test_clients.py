"""Unmodified clients of other projects, each in a program of its own, against a scripted board."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from edge_agent.generation.generation import GenerationRequest
from tests.clients.boards import running_boards
from tests.clients.scenarios import BY_NAME, CLIENTS, SCENARIOS, Client

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
# `make clients` installs them; elsewhere the variable says where they are.
INSTALLED = Path(os.environ.get("GOODSPEED_CLIENTS", ROOT / ".venv" / "clients"))
_SECONDS = 300.0  # heavy ones take half a minute to import, on a busy machine


class Played(NamedTuple):
    """What came of a client's program, and what the board was asked for each scenario."""

    told: dict[str, Any]
    seen: dict[str, GenerationRequest | None]
    was_cancelled: bool


def _command(client: Client) -> list[str] | None:
    """How to run its program; None: what it needs is not there."""
    program = HERE / "programs" / client.program
    if client.is_light:
        needed = shutil.which("curl") if client.name == "curl" else sys.executable
        return None if needed is None else [sys.executable, str(program)]
    if program.suffix == ".py":
        python = INSTALLED / client.package / "bin" / "python"
        return [str(python), str(program)] if python.exists() else None
    node = shutil.which("node")
    return [node, str(program)] if node is not None and (HERE / "node_modules").exists() else None


@functools.cache
def play(client: Client) -> Played | None:
    """All of a client's scenarios, once; None: what it needs is not there."""
    command = _command(client)
    if command is None:
        return None
    with running_boards() as boards:
        ended = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            env={**os.environ, **boards.addresses, "PYTHONWARNINGS": "ignore"},
            check=False,
        )
        assert 0 == ended.returncode, ended.stderr
        seen = {name: boards.seen(name) for name in client.scenarios}
        told = json.loads(ended.stdout.splitlines()[-1])
        return Played(told, seen, "cancel" in told and boards.slow_one_is_cancelled())


def asked() -> list[Any]:
    """All of the matrix; what is not in the development environment is for `make test-all`."""
    return [
        pytest.param(
            client,
            name,
            id=f"{client.name}-{name}",
            marks=() if client.is_light else pytest.mark.slow,
        )
        for client in CLIENTS
        for name in client.scenarios
    ]


@pytest.mark.parametrize(("client", "name"), asked())
def test_a_client_does_what_its_users_do(client: Client, name: str) -> None:
    played = play(client)
    if played is None:
        pytest.skip("not installed here: `make clients`")
    told = played.told[name]
    assert BY_NAME[name].is_right(told, played.seen[name]), told
    assert name != "cancel" or played.was_cancelled


def rows_below(page: str, heading: str) -> dict[str, str]:
    """The table of two columns whose first is called so."""
    _, _, below = page.partition(f"| {heading} |")
    rows = below.partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("| ").split("|")] for row in rows]
    return dict(cells)


def _told_reasons(client: Client) -> str:
    return "; ".join(f"{', '.join(names)}: {why}" for why, names in client.not_asked) or "–"


def test_the_page_of_clients_says_what_is_tested_and_what_is_not() -> None:
    page = (ROOT / "docs" / "clients.md").read_text()
    assert {client.name: _told_reasons(client) for client in CLIENTS} == rows_below(page, "client")
    left_out = [name for client in CLIENTS for some in client.not_asked for name in some.scenarios]
    assert BY_NAME.keys() >= set(left_out)
    meanings = {scenario.name: scenario.meaning for scenario in SCENARIOS}
    assert meanings == rows_below(page, "scenario")
