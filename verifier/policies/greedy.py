"""Maximal total goodput per round, with no fairness: GoodSpeed's solver with equal priorities.

It starves weak boards by design and must never be the default.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from verifier.policies.draft_length_policy import StreamShare
from verifier.policies.goodspeed import allocate_arrays


class GreedyPolicy:
    """Maximises the expected tokens of the next round over all streams."""

    def allocate(self, streams: Sequence[StreamShare], budget_tokens: int) -> list[int]:
        """See `DraftLengthPolicy`; goodput and weight are not looked at."""
        ones = np.ones(len(streams))
        lengths = allocate_arrays(
            np.array([stream.acceptance_rate for stream in streams], dtype=np.float64),
            ones,
            ones,
            np.array([stream.max_length for stream in streams], dtype=np.int64),
            budget_tokens,
        )
        allocated: list[int] = lengths.tolist()
        return allocated
