"""The clock, and whether the network has set it."""

from __future__ import annotations

import datetime
from pathlib import Path

from edge_agent.board.clock import Clock, read_clock
from tests.support.sysfs import write_tree

BOOT = datetime.datetime(1970, 1, 1, 0, 2, tzinfo=datetime.UTC)


def test_a_board_that_has_just_started(tmp_path: Path) -> None:
    (tmp_path / "run/systemd/timesync").mkdir(parents=True)
    assert Clock(year=1970, is_synchronised=False) == read_clock(tmp_path, BOOT)


def test_a_clock_that_the_network_has_set(tmp_path: Path) -> None:
    write_tree(tmp_path, {"run/systemd/timesync/synchronized": ""})
    assert read_clock(tmp_path).is_synchronised is True


def test_another_program_looks_after_it(tmp_path: Path) -> None:
    assert read_clock(tmp_path).is_synchronised is None
