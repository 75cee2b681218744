"""The real daemons under a notify socket, as a service manager runs them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ends.loopback import Verifier, make_server
from tests.support.ends.raw_board import raw_board
from tests.support.ends.scripted import scripted_service
from tests.support.programs.command import LAUNCHERS
from tests.support.programs.notify_socket import NotifySocket
from tests.support.programs.programs import Programs

SCRIPTED_VERIFIER = (*LAUNCHERS, "verifier", "--scripted")
WATCHDOG_SECONDS = 0.6


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with Programs(tmp_path) as made:
        yield made


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[NotifySocket]:
    with NotifySocket(str(tmp_path / "notify")) as listening:
        yield listening


def test_a_verifier_says_that_it_is_ready_well_and_stopping(
    programs: Programs, manager: NotifySocket
) -> None:
    programs.token_file("kitchen")
    verifier = programs.verifier(SCRIPTED_VERIFIER, environment=manager.settings(WATCHDOG_SECONDS))
    verifier.start()
    assert "serving scripted for 1 device" == manager.next_with("READY", "1")["STATUS"]
    for _ in range(3):
        manager.next_with("WATCHDOG", "1")
    assert manager.next_with("STATUS")["STATUS"] == "scripted: 0 boards, 0 streams, 0 tokens/s"
    verifier.end(signal.SIGTERM)
    manager.next_with("STOPPING", "1")


def test_an_agent_without_a_verifier_is_ready_and_says_what_it_lacks(
    programs: Programs, manager: NotifySocket
) -> None:
    token_file = programs.token_file("kitchen")
    agent = programs.agent(
        "ws://127.0.0.1:1",
        token_file,
        (*LAUNCHERS, "agent", "--scripted"),
        environment=manager.settings(WATCHDOG_SECONDS),
    )
    agent.start()
    manager.next_with("READY", "1")
    manager.next_with("WATCHDOG", "1")
    manager.next_with("STATUS", "cannot reach the verifier at ws://127.0.0.1:1")
    agent.end(signal.SIGTERM)
    manager.next_with("STOPPING", "1")


def test_an_agent_without_a_model_says_to_whom_it_is_connected(
    programs: Programs, manager: NotifySocket
) -> None:
    token_file = programs.token_file("kitchen")
    verifier = programs.verifier(SCRIPTED_VERIFIER)
    verifier.start()
    url = f"ws://127.0.0.1:{verifier.port}"
    settings = {"draft.model": ""}
    agent = programs.agent(url, token_file, settings=settings, environment=manager.settings())
    agent.start()
    manager.next_with("READY", "1")
    manager.next_with("STATUS", f"connected to scripted at {url}, 0 streams, drafting from n-grams")


def test_a_reload_is_told_to_the_manager(programs: Programs, manager: NotifySocket) -> None:
    programs.token_file("kitchen")
    verifier = programs.verifier(SCRIPTED_VERIFIER, environment=manager.settings())
    verifier.start()
    manager.next_with("READY", "1")
    verifier.send(signal.SIGHUP)
    assert int(manager.next_with("RELOADING", "1")["MONOTONIC_USEC"])
    assert manager.next_with("READY", "1")["STATUS"].startswith("scripted: 0 boards")
    verifier.line_with("settings were read again")


def test_a_target_that_loads_tells_of_itself(programs: Programs, manager: NotifySocket) -> None:
    programs.token_file("kitchen")
    launcher = (*SCRIPTED_VERIFIER, "--load-seconds=1")
    verifier = programs.verifier(launcher, environment=manager.settings())
    verifier.start()
    manager.next_with("STATUS", "starting")
    manager.next_with("READY", "1")


def test_a_round_that_hangs_ends_the_pings_though_the_loop_goes_on(
    programs: Programs, manager: NotifySocket
) -> None:
    token_file = programs.token_file("kitchen")
    verifier = programs.verifier(
        (*SCRIPTED_VERIFIER, "--round-ms=60000"), environment=manager.settings(WATCHDOG_SECONDS)
    )
    verifier.start()
    manager.next_with("WATCHDOG", "1")
    token = token_file.read_text()

    async def hang() -> None:
        service = scripted_service()
        known = Verifier(service, make_server(service, {}), verifier.port, {"kitchen": token})
        async with raw_board(known, "kitchen") as board:
            await board.open()
            verifier.line_with("what is computed takes over 0.6 s: no more pings")
            manager.read_all()
            await asyncio.sleep(2 * WATCHDOG_SECONDS)

    asyncio.run(hang())
    assert not [said for said in manager.read_all() if "WATCHDOG" in said]
    assert verifier.is_ready, "the loop goes on"
    verifier.kill()
