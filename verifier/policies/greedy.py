"""Maximal total goodput per round, with no fairness: GoodSpeed's solver with equal priorities.

It starves weak boards by design and must never be the default.
"""

from __future__ import annotations

import numpy as np

from shared.speculation.goodput import IntArray
from verifier.policies.budgeted import BudgetedPolicy
from verifier.policies.draft_policy import OpenStreams
from verifier.policies.goodspeed import allocate_arrays


class GreedyPolicy(BudgetedPolicy):
    """Maximises the expected tokens of the next round over all streams."""

    def allocate(self, streams: OpenStreams, budget_tokens: int) -> IntArray:
        """See `BudgetedPolicy`; goodput and weight are not looked at."""
        ones = np.ones(len(streams))
        return allocate_arrays(
            streams.acceptance_rates, ones, ones, streams.max_lengths, budget_tokens
        )
