"""What reaches the service manager, over real sockets."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.daemon.service_manager.notify import (
    MAX_STATUS_CHARACTERS,
    ServiceManager,
    service_manager,
)
from tests.support.programs.notify_socket import NotifySocket


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NotifySocket]:
    is_path = request.param == "path"
    with NotifySocket(str(tmp_path / "n") if is_path else f"@{secrets.token_hex(8)}") as opened:
        yield opened


@pytest.mark.parametrize(
    ("tell", "expected"),
    [
        (lambda m: m.ready("well"), {"READY": "1", "STATUS": "well"}),
        (lambda m: m.status("busy"), {"STATUS": "busy"}),
        (lambda m: m.ping(), {"WATCHDOG": "1"}),
        (lambda m: m.extend_start(1.5), {"EXTEND_TIMEOUT_USEC": "1500000"}),
        (lambda m: m.stopping(), {"STOPPING": "1", "STATUS": "stopping"}),
    ],
)
def test_each_message_arrives(
    listener: NotifySocket, tell: Callable[[ServiceManager], None], expected: dict[str, str]
) -> None:
    tell(service_manager(listener.settings()))
    assert [expected] == listener.read_all()


def test_a_reload_is_told_with_its_time(listener: NotifySocket) -> None:
    before = time.monotonic_ns() // 1000
    service_manager(listener.settings()).reloading()
    (said,) = listener.read_all()
    assert "1" == said["RELOADING"]
    assert before <= int(said["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000


def test_no_status_forges_another_message(listener: NotifySocket) -> None:
    service_manager(listener.settings()).status("model\nREADY=1" + "x" * 1000)
    (said,) = listener.read_all()
    assert {"STATUS"} == said.keys()
    assert said["STATUS"].startswith("model\\nREADY=1xx")
    assert len(said["STATUS"]) < MAX_STATUS_CHARACTERS + 30


def test_without_a_manager_nothing_happens(tmp_path: Path) -> None:
    for address in ("", "vsock:2:1234", str(tmp_path / "gone")):
        manager = service_manager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"})
        manager.ready("well")
        assert (address.startswith("/")) == manager.is_there


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_for_the_process_that_it_names(
    settings: dict[str, str], expected: float | None
) -> None:
    manager = service_manager({"NOTIFY_SOCKET": "/run/notify", **settings})
    assert expected == manager.watchdog_seconds
