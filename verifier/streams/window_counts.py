"""What became of the windows that a device's boards were given: counts for its metrics.

This module must never decide anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.protocol.draft_path import DraftPath
from verifier.streams.draft_mode import ModeName


@dataclass(slots=True)
class WindowCounts:
    """Sums over all streams of a device."""

    num_rounds: int = 0  # of streams with a window
    num_hits: int = 0  # those of them that found live tokens
    num_late_tokens: int = 0  # drafted, and struck off: the target had decided their position
    num_dead_tokens: int = 0  # drafted for nothing, behind one that differed
    num_to_fused: int = 0  # streams that the target writes alone from then on
    num_to_distributed: int = 0  # and that boards draft for again
    hidden_seconds: float = 0.0  # of drafting and travelling, in hits that no round had waited for

    def count_switch(self, mode: ModeName | None) -> None:
        """A stream switched to this mode; None: it did not."""
        self.num_to_fused += mode == "fused"
        self.num_to_distributed += mode == "distributed"

    def count_round(
        self, before: DraftPath, after: DraftPath, num_tested: int, hidden_seconds: float
    ) -> None:
        """A round of a stream with a window is over; it took the path from `before` to `after`."""
        self.num_rounds += 1
        if num_tested:
            self.num_hits += 1
            self.hidden_seconds += hidden_seconds
        if after.base > before.base:
            num_survived = after.base - 1 - before.position
            self.num_dead_tokens += max(len(before.live) - num_survived, 0)
