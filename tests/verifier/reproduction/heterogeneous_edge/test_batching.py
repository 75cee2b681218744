"""The exact cut of a queue, held against all cuts that there are."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

from verifier.reproduction.heterogeneous_edge.batching import (
    QueueTimes,
    shortest_cycle,
    shortest_sum,
)
from verifier.reproduction.heterogeneous_edge.pipeline import cycle_seconds, pipeline_seconds
from verifier.reproduction.heterogeneous_edge.scenario import (
    CellSection,
    EdgeScenario,
    StationSection,
)
from verifier.reproduction.heterogeneous_edge.stage_times import StageWork
from verifier.reproduction.heterogeneous_edge.world import draw_users


def all_cuts(times: QueueTimes, start: int = 0) -> Iterator[tuple[int, ...]]:
    """Every way to cut the requests from `start` on."""
    if start == len(times.draft_seconds):
        yield ()
        return
    for size in range(1, len(times.draft_seconds[start]) + 1):
        for rest in all_cuts(times, start + size):
            yield (size, *rest)


def random_times(random: np.random.Generator, num_requests: int) -> QueueTimes:
    """Any times at all, or such that grow with the batch; some batches too long to be allowed."""
    longest = [int(random.integers(1, num_requests - start + 1)) for start in range(num_requests)]
    scale = 10.0 ** random.uniform(-1, 1)
    if random.random() < 0.5:
        drafts = [random.random(count) for count in longest]
        checks = [scale * random.random(count) for count in longest]
    else:
        drafts = [0.3 + np.cumsum(random.random(count)) for count in longest]
        checks = [scale * (0.3 + np.cumsum(random.random(count))) for count in longest]
    return QueueTimes(drafts, checks)


def test_the_cut_is_the_best_of_all_in_a_thousand_queues() -> None:
    random = np.random.default_rng(18)
    sizes = [10] * 20 + random.integers(1, 8, size=980).tolist()
    for num_requests in sizes:
        times = random_times(random, num_requests)
        best = min(cycle_seconds(times.of(cut)) for cut in all_cuts(times))
        found = shortest_cycle(times)
        assert found is not None
        assert best == pytest.approx(found.cycle_seconds, rel=1e-9)
        assert num_requests == sum(found.sizes)


def test_a_limit_that_no_cut_keeps_is_no_cut() -> None:
    times = random_times(np.random.default_rng(1), 6)
    best = shortest_cycle(times)
    assert best is not None
    assert shortest_cycle(times, cycle_limit=best.cycle_seconds) is None
    assert best == shortest_cycle(times, cycle_limit=1.01 * best.cycle_seconds)


def test_the_least_sum_is_the_least_of_all_cuts() -> None:
    random = np.random.default_rng(2)
    for _ in range(100):
        times = random_times(random, 6)
        rest, sizes = shortest_sum(times.draft_seconds)
        sums = [sum(batch.draft_seconds for batch in times.of(cut)) for cut in all_cuts(times)]
        assert min(sums) == pytest.approx(rest[0])
        assert min(sums) == pytest.approx(sum(batch.draft_seconds for batch in times.of(sizes)))


def test_the_best_cycle_is_within_a_stage_of_the_best_whole_pipeline() -> None:
    """Cycles are what is minimised: a pipeline of many stages is that, and filling it once."""
    random = np.random.default_rng(3)
    for _ in range(50):
        times = random_times(random, 5)
        found = shortest_cycle(times)
        assert found is not None
        wholes = {cut: pipeline_seconds(times.of(cut), 40) for cut in all_cuts(times)}
        one_stage = pipeline_seconds(times.of(found.sizes), 1)
        assert wholes[found.sizes] <= min(wholes.values()) + one_stage


@pytest.mark.parametrize("draft_model", ["llama-68m", "llama-1.1b"])
def test_a_thousand_requests_are_cut_in_a_second(draft_model: str) -> None:
    """Of processor time, for one draft length."""
    stations = StationSection(draft_model=draft_model, small_slowness=4.0)  # type: ignore[arg-type]
    scenario = EdgeScenario(cell=CellSection(users=1000), stations=stations)
    work = StageWork(scenario, draw_users(scenario, 1).input_tokens)
    begun = time.process_time()
    found = shortest_cycle(work.times(4))
    assert time.process_time() - begun < 1.0
    assert found is not None
    assert 1000 == sum(found.sizes)
