"""A board's hardware reaches the verifier, and those who look there."""

from __future__ import annotations

import asyncio
import logging

import pytest

from edge_agent.generation import health_reports
from edge_agent.generation.health_reports import HealthReports
from shared.protocol.board_health import BoardHealth
from tests.support.ends.loopback import running_agent, running_verifier
from tests.support.ends.scripted import board, scripted_service
from tests.support.ends.waiting import eventually
from verifier.web.state_reading import read_state

HOT = BoardHealth(84, 512, is_undervolted=True, is_slowed=True, was_slowed=True)


def test_changes_are_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(health_reports, "REPORT_SECONDS", 0.0)
    told = [BoardHealth(50), HOT, HOT, BoardHealth(51), BoardHealth(52)]
    sent: list[BoardHealth] = []

    async def until_all_are_told() -> None:
        reports = HealthReports(lambda: told[len(sent)], sent.append)
        with pytest.raises(IndexError):
            await reports.run()
        assert BoardHealth(52) == reports.health

    with caplog.at_level(logging.WARNING):
        asyncio.run(until_all_are_told())
    assert 5 == len(sent)
    assert ["this board: undervoltage, throttled", "this board: all is well again"] == [
        record.getMessage() for record in caplog.records
    ]


def test_it_reaches_metrics_and_dashboard() -> None:
    async def told() -> tuple[str, list[str], int | None, str]:
        service = scripted_service()
        async with (
            running_verifier(service, ("kitchen",)) as verifier,
            running_agent(verifier, board(0.1), "kitchen", read_health=lambda: HOT) as agent,
        ):
            await eventually(lambda: service.devices["kitchen"].health is not None)
            (device,) = read_state(service, 1.0).devices
            page = service.metrics.page().decode()
            return page, device.troubles, device.celsius, agent.status

    page, troubles, celsius, status = asyncio.run(told())
    assert (["undervoltage", "throttled"], 84) == (troubles, celsius)
    for line in (
        'goodspeed_device_celsius{device="kitchen"} 84.0',
        'goodspeed_device_free_bytes{device="kitchen"} 5.12e+08',
        'goodspeed_device_throttled{device="kitchen"} 1.0',
        'goodspeed_device_undervoltage{device="kitchen"} 1.0',
    ):
        assert line in page.splitlines()
    assert status.endswith(", 84 °C, undervoltage, throttled")


def test_a_board_without_sensors_sends_nothing() -> None:
    async def told() -> BoardHealth | None:
        service = scripted_service()
        async with (
            running_verifier(service, ("kitchen",)) as verifier,
            running_agent(verifier, board(0.1), "kitchen") as agent,
        ):
            await eventually(lambda: agent.target_model is not None)
            await asyncio.sleep(0.05)
            return service.devices["kitchen"].health

    assert asyncio.run(told()) is None
