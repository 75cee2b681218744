"""Long work in a thread pauses often enough for others, and never for nothing."""

from __future__ import annotations

import pytest

from verifier.engine import unhurried as module
from verifier.engine.metrics import DEVICES_AT_ONCE, SAMPLES_AT_ONCE, Metrics
from verifier.engine.unhurried import unhurried


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    made: list[float] = []
    monkeypatch.setattr(module.time, "sleep", made.append)
    return made


@pytest.mark.parametrize(
    ("num_items", "num_pauses"), [(0, 0), (1, 0), (10, 0), (11, 1), (100, 9), (101, 10)]
)
def test_there_is_a_pause_between_each_few_items(
    num_items: int, num_pauses: int, pauses: list[float]
) -> None:
    assert list(range(num_items)) == list(unhurried(range(num_items), 10))
    assert [module.PAUSE_SECONDS] * num_pauses == pauses


def test_a_page_of_many_devices_pauses_while_it_collects_and_while_it_writes(
    pauses: list[float],
) -> None:
    metrics = Metrics()
    num_devices = 10 * DEVICES_AT_ONCE
    for i in range(num_devices):
        metrics.received(f"board-{i}", 1)
    page = metrics.page()
    num_samples = page.count(b"board-")
    assert 6 * num_devices == num_samples
    # Of 5 families one has two samples for each device; in each the last few need no pause.
    assert len(pauses) >= 9 + num_samples // SAMPLES_AT_ONCE - 5
