"""Whether a stream is *fused* (the target writes alone) or *distributed* (its board drafts).

The names are DSD's (arXiv 2511.21669). Which one it is follows from what the policy grants, so from
measurements; a single grant does not change it: probes, and plans that are just beyond a bound, are
no change of mode. This module must never decide what is granted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ModeName = Literal["distributed", "fused"]

NUM_TO_SWITCH = 2  # grants in a row


@dataclass(slots=True)
class DraftMode:
    """Of one stream whose board can draft."""

    is_fused: bool = False
    num_against: int = 0  # latest grants in a row that speak for the other mode

    def observe(self, num_granted: int) -> ModeName | None:
        """Take in a grant of so many tokens; the mode that it switches to, None where it does not.

        0 is what a policy gives where no draft pays.
        """
        self.num_against = self.num_against + 1 if (num_granted == 0) != self.is_fused else 0
        if self.num_against < NUM_TO_SWITCH:
            return None
        self.num_against = 0
        self.is_fused = not self.is_fused
        return "fused" if self.is_fused else "distributed"
