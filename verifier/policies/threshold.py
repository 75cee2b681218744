"""DSD's dynamic baseline: a longer window where drafts survive, a shorter one where they do not.

The thresholds are those of the authors' simulator (github.com/yfzzzyyls/dsdSim). It must never know
what a draft costs.
"""

from __future__ import annotations

import numpy as np

from shared.speculation.goodput import FloatArray, IntArray
from verifier.policies.budgeted import BudgetedPolicy
from verifier.policies.draft_policy import OpenStreams

LOW_ACCEPTANCE, HIGH_ACCEPTANCE = 0.25, 0.6
SHORT, MIDDLE, LONG = 2, 4, 8


def threshold_windows(acceptance_rates: FloatArray) -> IntArray:
    """2 up to a quarter, 8 from 0.6 on, else 4 [num_streams]."""
    windows: IntArray = np.select(
        [acceptance_rates <= LOW_ACCEPTANCE, acceptance_rates >= HIGH_ACCEPTANCE],
        [SHORT, LONG],
        MIDDLE,
    ).astype(np.int64)
    return windows


class ThresholdPolicy(BudgetedPolicy):
    """Those windows, in the streams' order as far as the budget goes."""

    def allocate(self, streams: OpenStreams, budget_tokens: int) -> IntArray:
        """See `BudgetedPolicy`."""
        wanted = np.minimum(threshold_windows(streams.acceptance_rates), streams.max_lengths)
        before = np.cumsum(wanted) - wanted
        lengths: IntArray = np.clip(max(budget_tokens, 0) - before, 0, wanted)
        return lengths
