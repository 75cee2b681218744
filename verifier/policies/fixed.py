"""Fixed-S: the papers' baseline, the same draft length for every stream.

It must never look at what a stream has achieved.
"""

from __future__ import annotations

import numpy as np

from shared.speculation.goodput import IntArray
from verifier.policies.budgeted import BudgetedPolicy
from verifier.policies.draft_policy import OpenStreams


class FixedPolicy(BudgetedPolicy):
    """Gives each of N streams C/N tokens of a budget C, or a given length if that is less.

    What does not divide goes to the first streams, one each, so that the baseline spends as much
    as its rivals (GoodSpeed, arXiv 2512.09963, baseline Fixed-S).
    """

    def __init__(self, draft_length: int | None = None) -> None:
        self._draft_length = draft_length

    def allocate(self, streams: OpenStreams, budget_tokens: int) -> IntArray:
        """See `BudgetedPolicy`."""
        share, num_left = divmod(max(budget_tokens, 0), max(len(streams), 1))
        asked_length = share + 1 if self._draft_length is None else self._draft_length
        equal_shares = share + (np.arange(len(streams)) < num_left)
        lengths: IntArray = np.minimum(np.minimum(equal_shares, asked_length), streams.max_lengths)
        return lengths
