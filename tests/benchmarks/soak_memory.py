"""What processes hold over time, and how fast that grows: a line through the samples of each."""

from __future__ import annotations

import math
import os
import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from shared.daemon.resources.main_memory import resident_memory


@dataclass(frozen=True)
class Growth:
    """Of one process; MB, and MB a minute with twice the standard error."""

    minutes: float
    first: float
    last: float
    largest: float
    slope: float
    uncertainty: float

    def __str__(self) -> str:
        return (
            f"{self.first:.1f} → {self.last:.1f} MB (at most {self.largest:.1f}) in "
            f"{self.minutes:.0f} minutes, {self.slope:+.3f} ± {self.uncertainty:.3f} MB a minute"
        )


@dataclass
class MemoryWatch:
    """Samples of every process that there was, by name and number."""

    _samples: defaultdict[tuple[str, int], list[tuple[float, float]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    _seconds: dict[tuple[str, int], float] = field(default_factory=dict)  # of a core

    def take(self, name: str, process_id: int, minute: float) -> None:
        """One sample; a process that has just ended gives none."""
        held = resident_memory(str(process_id))
        if held is not None:
            self._samples[name, process_id].append((minute, held.total / 1e6))
            self._seconds[name, process_id] = _core_seconds(process_id)

    def core_seconds(self) -> float:
        """Of all processes together."""
        return sum(self._seconds.values())

    def growths(self, warm_up_minutes: float, least_minutes: float) -> dict[str, Growth]:
        """Of each process that lived long enough after its warm-up; the longest of each name."""
        found: dict[str, Growth] = {}
        for (name, _), samples in self._samples.items():
            born_at = samples[0][0]
            steady = [sample for sample in samples if sample[0] >= born_at + warm_up_minutes]
            if len(steady) < 3 or steady[-1][0] - steady[0][0] < least_minutes:
                continue
            growth = _growth(steady)
            if name not in found or found[name].minutes < growth.minutes:
                found[name] = growth
        return found


def _growth(samples: list[tuple[float, float]]) -> Growth:
    minutes, sizes = zip(*samples, strict=True)
    slope, intercept = statistics.linear_regression(minutes, sizes)
    rest = sum((size - slope * minute - intercept) ** 2 for minute, size in samples)
    spread = statistics.pvariance(minutes) * len(samples)
    error = math.sqrt(rest / (len(samples) - 2) / spread)
    passed = minutes[-1] - minutes[0]
    return Growth(passed, sizes[0], sizes[-1], max(sizes), slope, 2 * error)


def _core_seconds(process_id: int) -> float:
    try:
        fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
