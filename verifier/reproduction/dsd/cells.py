"""DSD's twelve cells: three workloads, 600 and 1,000 devices on 20 verifiers, 10 and 30 ms.

The paper's note gives models and cards, and neither times nor arrivals. What stands here is ours
and is labelled so on the page.
"""

from __future__ import annotations

import itertools
from typing import Literal

import msgspec

from verifier.sim.many_verifiers.setting import ManySetting, TargetKind

WorkloadName = Literal["GSM8K", "CNN/DailyMail", "HumanEval"]

# A 70B target: a round without tokens, a token more, a token of a prompt. The class of an H100 is a
# round figure in the range of the paper's seconds per token (36 to 45 ms); the others are scaled.
H100 = TargetKind("H100-class", 0.040, 0.00016, 0.00010)
A100 = H100.slower("A100-class (1.5 × H100)", 1.5)
A6000 = H100.slower("A6000-class (2.5 × H100)", 2.5)
TARGETS = (*[H100] * 8, *[A100] * 6, *[A6000] * 6)
NUM_DEVICES = (600, 1000)
ROUND_TRIPS = (0.010, 0.030)


class Workload(msgspec.Struct, frozen=True):
    """Lengths and acceptance of one set of prompts; ours."""

    name: WorkloadName
    prompt_tokens: tuple[int, int]
    output_tokens: tuple[int, int]
    acceptance: tuple[float, float]


WORKLOADS = (
    Workload("GSM8K", (60, 160), (80, 240), (0.60, 0.90)),
    Workload("CNN/DailyMail", (600, 1100), (50, 110), (0.50, 0.80)),
    Workload("HumanEval", (120, 250), (80, 260), (0.65, 0.92)),
)


class Cell(msgspec.Struct, frozen=True):
    """One of the twelve."""

    workload: WorkloadName
    num_devices: int
    round_trip_seconds: float

    @property
    def name(self) -> str:
        """As a row is called."""
        return f"{self.workload}, {self.num_devices}, {1e3 * self.round_trip_seconds:g} ms"


CELLS = tuple(
    Cell(workload.name, count, round_trip)
    for workload, count, round_trip in itertools.product(WORKLOADS, NUM_DEVICES, ROUND_TRIPS)
)


def setting_of(cell: Cell, targets: tuple[TargetKind, ...] = TARGETS) -> ManySetting:
    """The world of a cell, routed to the shortest queue."""
    workload = next(w for w in WORKLOADS if w.name == cell.workload)
    return ManySetting(
        targets=targets,
        num_devices=cell.num_devices,
        acceptance=workload.acceptance,
        round_trip_seconds=cell.round_trip_seconds,
        prompt_tokens=workload.prompt_tokens,
        output_tokens=workload.output_tokens,
        seconds=20.0,
        warm_up_seconds=5.0,
        max_batch=64,
    )
