"""The processor as fake kernels tell of it."""

from __future__ import annotations

from pathlib import Path

from edge_agent.board.processor import read_processor
from tests.support.sysfs import pi_5, write_tree


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    processor = read_processor(tmp_path)
    assert not processor.features
    assert processor.governor is processor.driver is processor.allowed_mhz is None
    assert 1 <= processor.num_cores


def test_a_raspberry_pi(tmp_path: Path) -> None:
    processor = read_processor(write_tree(tmp_path, pi_5()))
    assert {"asimddp", "fphp", "asimdhp"} < processor.features
    assert ("ondemand", "cpufreq-dt") == (processor.governor, processor.driver)
    assert (2400.0, 2400.0) == (processor.allowed_mhz, processor.built_for_mhz)


def test_only_what_all_cores_have_counts(tmp_path: Path) -> None:
    text = "processor : 0\nflags : fma avx2\n\nprocessor : 1\nflags : fma\n"
    processor = read_processor(write_tree(tmp_path, {"proc/cpuinfo": text}))
    assert frozenset({"fma"}) == processor.features
