"""The joint plan of the paper, and each of its baselines, over the same users.

A plan's seconds are those of the last upload and of the decoding that follows; reading the prompts
is left out, as in the paper's objective.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec
import numpy as np

from verifier.reproduction.heterogeneous_edge import cuts
from verifier.reproduction.heterogeneous_edge.batching import (
    QueueTimes,
    shortest_cycle,
    shortest_sum,
)
from verifier.reproduction.heterogeneous_edge.pipeline import (
    cycle_seconds,
    pipeline_seconds,
    sequential_seconds,
)
from verifier.reproduction.heterogeneous_edge.scenario import EdgeScenario
from verifier.reproduction.heterogeneous_edge.stage_times import StageWork, num_stages
from verifier.reproduction.heterogeneous_edge.uplink import (
    best_shares,
    equal_shares,
    upload_seconds,
)
from verifier.reproduction.heterogeneous_edge.world import EdgeUsers

FIXED_LENGTH = 7

ArmName = Literal[
    "joint",
    "uniform bandwidth",
    "no pipeline",
    "heuristic batching",
    "maximal batching",
    "static batching",
    "no batching",
    "fixed length",
    "autoregressive",
    "autoregressive, same memory",
]
ARMS: tuple[ArmName, ...] = (
    *("joint", "uniform bandwidth", "no pipeline", "heuristic batching", "maximal batching"),
    *("static batching", "no batching", "fixed length"),
    *("autoregressive", "autoregressive, same memory"),
)


class EdgePlan(msgspec.Struct, frozen=True):
    """What an arm does, and how long that takes."""

    arm: ArmName
    draft_length: int  # 0: autoregressive
    batch_sizes: tuple[int, ...]
    num_stages: int
    upload_seconds: float
    decode_seconds: float

    @property
    def seconds(self) -> float:
        """From the first bit sent to the last token."""
        return self.upload_seconds + self.decode_seconds


class _Decoding(msgspec.Struct, frozen=True):
    """Everything but the upload."""

    draft_length: int
    batch_sizes: tuple[int, ...]
    num_stages: int
    seconds: float


class EdgePlanner:
    """Plans of all arms for the same users."""

    def __init__(self, scenario: EdgeScenario, users: EdgeUsers) -> None:
        self._scenario = scenario
        self._users = users
        self._work = StageWork(scenario, users.input_tokens)

    def plan(self, arm: ArmName) -> EdgePlan:
        """The best plan that the arm allows."""
        scenario, users = self._scenario, self._users
        decoding = self._decoding(arm)
        bits = users.input_tokens.astype(np.float64) * scenario.requests.prompt_token_bits
        is_equal = arm == "uniform bandwidth"
        shares = equal_shares(len(bits)) if is_equal else best_shares(bits, users.efficiencies)
        hertz = 1e6 * scenario.cell.bandwidth_megahertz
        return EdgePlan(
            arm=arm,
            draft_length=decoding.draft_length,
            batch_sizes=decoding.batch_sizes,
            num_stages=decoding.num_stages,
            upload_seconds=upload_seconds(bits, users.efficiencies, shares, hertz),
            decode_seconds=decoding.seconds,
        )

    def _decoding(self, arm: ArmName) -> _Decoding:
        scenario, work = self._scenario, self._work
        lengths = list(range(1, scenario.stations.max_draft_length + 1))
        match arm:
            case "joint" | "uniform bandwidth":
                return _best_joint(scenario, work, lengths)
            case "fixed length":
                return _best_joint(scenario, work, [FIXED_LENGTH])
            case "no pipeline":
                return _best_alone(scenario, work, lengths)
            case "autoregressive":  # the paper's large station holds all requests
                unbounded = StageWork(scenario, self._users.input_tokens, is_bounded=False)
                return _best_alone(scenario, unbounded, [0])
            case "autoregressive, same memory":
                return _best_alone(scenario, work, [0])
            case "no batching":
                single = cuts.single_requests(len(self._users.input_tokens))
                return _best_of_cuts(scenario, work, lengths, lambda _: single)
            case "static batching":
                static = cuts.static_batches(work.longest_batches)
                return _best_of_cuts(scenario, work, lengths, lambda _: static)
            case "maximal batching":
                maximal = cuts.maximal_batches(work.longest_batches)
                return _best_of_cuts(scenario, work, lengths, lambda _: maximal)
            case "heuristic batching":
                return _best_of_cuts(scenario, work, lengths, cuts.heuristic_batches)


def _stages(scenario: EdgeScenario, draft_length: int) -> int:
    requests = scenario.requests
    return num_stages(requests.max_output_tokens, requests.acceptance, draft_length)


def _best_joint(scenario: EdgeScenario, work: StageWork, lengths: list[int]) -> _Decoding:
    """Exact over cuts and lengths, in the cycles of all stages."""
    least = np.inf
    chosen: tuple[int, tuple[int, ...]] | None = None
    for length in lengths:
        stages = _stages(scenario, length)
        cut = shortest_cycle(work.times(length), cycle_limit=least / stages)
        if cut is not None:
            least, chosen = stages * cut.cycle_seconds, (length, cut.sizes)
    assert chosen is not None
    length, sizes = chosen
    stages = _stages(scenario, length)
    seconds = pipeline_seconds(work.times(length).of(sizes), stages)
    return _Decoding(length, sizes, stages, seconds)


def _best_alone(scenario: EdgeScenario, work: StageWork, lengths: list[int]) -> _Decoding:
    """One station after the other, or the large one alone; its cut is exact as well."""
    found = []
    for length in lengths:
        times = work.times(length)
        both = [d + v for d, v in zip(times.draft_seconds, times.verify_seconds, strict=True)]
        _, sizes = shortest_sum(both if length else times.verify_seconds)
        stages = _stages(scenario, length)
        batches = times.of(sizes)
        if not length:
            batches = [batch._replace(draft_seconds=0.0) for batch in batches]
        found.append(_Decoding(length, sizes, stages, sequential_seconds(batches, stages)))
    return min(found, key=lambda decoding: decoding.seconds)


def _best_of_cuts(
    scenario: EdgeScenario,
    work: StageWork,
    lengths: list[int],
    cut: Callable[[QueueTimes], tuple[int, ...]],
) -> _Decoding:
    """The best length for a rule that cuts the queue."""
    best: tuple[float, int, tuple[int, ...]] | None = None
    for length in lengths:
        times = work.times(length)
        sizes = cut(times)
        seconds = _stages(scenario, length) * cycle_seconds(times.of(sizes))
        if best is None or seconds < best[0]:
            best = (seconds, length, sizes)
    assert best is not None
    _, length, sizes = best
    stages = _stages(scenario, length)
    batches = work.times(length).of(sizes)
    return _Decoding(length, sizes, stages, pipeline_seconds(batches, stages))
