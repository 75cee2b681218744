"""`goodspeed-verifier worker` under a service manager: loading, serving, hanging, ending."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.programs.command import LAUNCHERS
from tests.support.programs.notify_socket import NotifySocket
from tests.support.programs.ports import free_port
from tests.support.programs.program import Program
from tests.verifier.workers.test_remote_target import ROUND
from verifier.cli import main
from verifier.target.target import TargetLost
from verifier.workers.remote_target import WorkerAddress, connect

SECRET = "0123456789abcdef0123456789abcdef"
WATCHDOG_SECONDS = 0.6


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[NotifySocket]:
    with NotifySocket(str(tmp_path / "notify")) as listening:
        yield listening


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.touch(0o600)
    path.write_text(SECRET)
    return path


def make_worker(
    directory: Path, secret_file: Path, manager: NotifySocket, round_ms: int = 0
) -> tuple[Program, WorkerAddress]:
    port = free_port()
    settings = (f"workers.secret_file={secret_file}", f"workers.port={port}")
    options = (f"--round-ms={round_ms}", "worker", *(f"--set={setting}" for setting in settings))
    program = Program(
        "worker",
        [*LAUNCHERS, "verifier", "--scripted", *options],
        directory / "worker.log",
        settings=manager.settings(WATCHDOG_SECONDS),
    )
    return program, WorkerAddress("127.0.0.1", port)


def test_a_worker_says_that_it_loads_is_ready_well_and_stopping(
    tmp_path: Path, secret_file: Path, manager: NotifySocket
) -> None:
    program, address = make_worker(tmp_path, secret_file, manager)
    with program:
        manager.next_with("STATUS", "loading")
        said = manager.next_with("READY", "1")["STATUS"]
        assert said == "serving scripted: waiting for a verifier"
        for _ in range(3):
            manager.next_with("WATCHDOG", "1")
        target = connect(address, SECRET, lambda round_: 5.0, 0)
        manager.next_with("STATUS", "serving scripted: a verifier is here")
        assert len(ROUND.items) == len(target.run(ROUND).items)
        program.end(signal.SIGTERM)
        manager.next_with("STOPPING", "1")
        target.close("the test is over")


def test_a_round_that_hangs_ends_the_pings_of_a_worker(
    tmp_path: Path, secret_file: Path, manager: NotifySocket
) -> None:
    program, address = make_worker(tmp_path, secret_file, manager, round_ms=60_000)
    with program:
        manager.next_with("WATCHDOG", "1")
        target = connect(address, SECRET, lambda round_: 0.1, 0)
        with pytest.raises(TargetLost):
            target.run(ROUND)
        program.line_with("what is computed takes over 0.6 s: no more pings")
        manager.read_all()
        time.sleep(2 * WATCHDOG_SECONDS)
        assert not [said for said in manager.read_all() if "WATCHDOG" in said]
        program.kill()


def test_a_port_that_is_taken_is_no_wrong_setting_for_it_may_be_free_soon(
    secret_file: Path,
) -> None:
    """78 would keep the service manager from another try."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = (f"workers.secret_file={secret_file}", f"workers.port={port}")
        options = [f"--set={setting}" for setting in settings]
        result = CliRunner().invoke(main, ["worker", *options])
    assert 2 == result.exit_code
    assert f"Address already in use: 127.0.0.1, port {port}" in result.stderr


def test_a_host_of_several_addresses_is_not_one_to_listen_at(
    secret_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))
        for address in ("127.0.0.1", "127.0.0.2")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    settings = (f"workers.secret_file={secret_file}", "workers.host=both")
    result = CliRunner().invoke(main, ["worker", *(f"--set={setting}" for setting in settings)])
    assert 78 == result.exit_code
    assert "workers.host = both: must be one address" in result.stderr
