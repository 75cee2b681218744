"""Policies that split a budget: the published ones, and what they leave open.

They say how C tokens are shared (`allocate`); how large C is, and which tokens of those that are
here a round tests, is the same for all of them. This module must never look at a live token's
worth.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

from shared.speculation.goodput import IntArray
from verifier.policies.budget import plan_budget
from verifier.policies.draft_policy import (
    BudgetLimits,
    LengthPlan,
    LiveDrafts,
    OpenStreams,
    Outlook,
)


class BudgetedPolicy(ABC):
    """A `DraftPolicy` that splits the budget of a round over the open streams."""

    weighs_payoff: ClassVar[bool] = False
    uses_confidence: ClassVar[bool] = False

    @abstractmethod
    def allocate(self, streams: OpenStreams, budget_tokens: int) -> IntArray:
        """One draft length per stream, in order.

        Each is at least 0 and at most the stream's `max_length`; their sum is at most the budget.
        """

    def plan(self, outlook: Outlook, limits: BudgetLimits) -> LengthPlan:
        """See `DraftPolicy`."""
        budget = plan_budget(outlook.streams, self.allocate, outlook.times.seconds_with, limits)
        return LengthPlan(budget.budget_tokens, budget.draft_lengths)

    def choose(self, live: LiveDrafts, look: Callable[[], Outlook]) -> Sequence[int]:
        """See `DraftPolicy`; each board's own length first, in their turns, then the rest."""
        return first_come(live)


def first_come(live: LiveDrafts) -> list[int]:
    """First come, first served, in two passes: their own lengths, then all that is here.

    Else a few boards that are far ahead would use the budget up, where the first tokens of the
    others are worth more than their last ones. A token takes its price out of what is left.
    """
    chosen = [0] * len(live.num_testable)
    left = min(float(live.num_room), live.budget)
    for is_own_length in (True, False):
        for i, num_testable in enumerate(live.num_testable):
            num_wanted = num_testable - chosen[i]
            if is_own_length:
                num_wanted = min(num_wanted, live.own_lengths[i])
            if num_wanted > 0:
                num_paid = min(num_wanted, max(affordable(left, live.prices[i]), 0))
                chosen[i] += num_paid
                left -= num_paid * live.prices[i]
    return chosen


def affordable(budget: float, price: float) -> int:
    """How many draft tokens so much of a budget pays for."""
    return int(budget / price)
