"""Random-S: the papers' second baseline, a fresh random split in every round.

It must never draw from anything but the generator it was given.
"""

from __future__ import annotations

import numpy as np

from shared.speculation.goodput import IntArray
from verifier.policies.budgeted import BudgetedPolicy
from verifier.policies.draft_policy import OpenStreams


class RandomPolicy(BudgetedPolicy):
    """Draws uniformly from all splits with a sum of at most C, then cuts at each `max_length`.

    The paper names no distribution (GoodSpeed, arXiv 2512.09963, baseline Random-S).
    """

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator

    def allocate(self, streams: OpenStreams, budget_tokens: int) -> IntArray:
        """See `BudgetedPolicy`; moves the generator on."""
        num_streams = len(streams)
        # Stars and bars: N bars among C + N places; the tokens before bar i are stream i's, those
        # after the last bar are no stream's.
        num_places = max(budget_tokens, 0) + num_streams
        bars = np.sort(self._generator.choice(num_places, size=num_streams, replace=False))
        drawn_lengths: IntArray = np.diff(bars, prepend=-1) - 1
        return np.minimum(drawn_lengths, streams.max_lengths)
