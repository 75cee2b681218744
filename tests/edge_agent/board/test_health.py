"""What boards tell their verifier, from fake trees of real ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from edge_agent.board.health import read_health
from shared.protocol.board_health import BoardHealth
from tests.support.sysfs import jetson_orin, pi_4, pi_5, write_tree, x86


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({}, ""),
        (pi_4(), "61 °C"),
        (pi_4(alarm=1), "61 °C, undervoltage"),
        (pi_5(), "55 °C"),
        (pi_5("50005", 84.6), "85 °C, undervoltage, throttled"),
        (pi_5("50000"), "55 °C, undervoltage before, throttled before"),
        (jetson_orin(), "49 °C"),
        (jetson_orin(events=2), "49 °C, throttled before"),
        (x86(), "44 °C"),
        (x86(throttle_count=3), "44 °C, throttled before"),
    ],
)
def test_a_board_is_told_of_in_words(tmp_path: Path, tree: Mapping[str, str], words: str) -> None:
    assert words == str(read_health(write_tree(tmp_path, tree)))


def test_free_memory_is_told(tmp_path: Path) -> None:
    assert 1024 == read_health(write_tree(tmp_path, pi_4())).free_megabytes


def test_a_machine_without_sensors_tells_nothing(tmp_path: Path) -> None:
    assert BoardHealth() == read_health(tmp_path)
    assert () == BoardHealth().troubles
