"""The pipeline, held against a play of it event by event, and its cycle against long runs."""

from __future__ import annotations

import numpy as np
import pytest

from verifier.reproduction.heterogeneous_edge.pipeline import (
    BatchTimes,
    cycle_seconds,
    pipeline_seconds,
    sequential_seconds,
)


def random_batches(random: np.random.Generator) -> list[BatchTimes]:
    count = int(random.integers(1, 6))
    return [BatchTimes(*pair) for pair in random.uniform(0.1, 2.0, size=(count, 2)).tolist()]


def played(batches: list[BatchTimes], num_stages: int) -> float:
    """The same pipeline as jobs with what each waits for, in any order that is possible."""
    ends: dict[tuple[str, int, int], float] = {}
    last = len(batches) - 1

    def end(station: str, stage: int, batch: int) -> float:
        if stage < 0:
            return 0.0
        key = (station, stage, batch)
        if key not in ends:
            before = (stage, batch - 1) if batch else (stage - 1, last)
            own = ("large", stage - 1, batch) if station == "small" else ("small", stage, batch)
            ends[key] = max(end(station, *before), end(*own)) + batches[batch][station == "large"]
        return ends[key]

    return end("large", num_stages - 1, last)


def test_the_recursion_is_the_longest_chain_of_waits() -> None:
    random = np.random.default_rng(1)
    for _ in range(200):
        batches = random_batches(random)
        assert played(batches, 7) == pytest.approx(pipeline_seconds(batches, 7))


def test_many_stages_are_as_many_cycles_and_the_first_stage() -> None:
    random = np.random.default_rng(2)
    for _ in range(300):
        batches = random_batches(random)
        cycle, first = cycle_seconds(batches), pipeline_seconds(batches, 1)
        for num_stages in (1, 2, 9):
            seconds = pipeline_seconds(batches, num_stages)
            assert num_stages * cycle <= seconds * (1 + 1e-12)
            assert seconds <= (num_stages - 1) * cycle + first + 1e-9


def test_one_batch_gains_nothing_by_a_pipeline() -> None:
    one = [BatchTimes(0.5, 0.7)]
    assert sequential_seconds(one, 9) == pytest.approx(pipeline_seconds(one, 9))


def test_two_equal_batches_halve_the_time_of_equal_stations() -> None:
    two = [BatchTimes(1.0, 1.0)] * 2
    assert 40.0 == sequential_seconds(two, 10)
    assert 21.0 == pipeline_seconds(two, 10)
