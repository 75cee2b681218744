"""The budget of a round: how many draft tokens it may hold over all streams.

The budget is a setting, or follows from one number that a user understands, `slowdown_limit`.
This module must never pick a stream's length itself: the policy does.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from shared.speculation.goodput import FloatArray, IntArray, expected_tokens
from verifier.policies.draft_policy import BudgetLimits, OpenStreams

# Allocations tried for one round; 1,500 random fleets took 1 to 4 (see `plan_budget`).
MAX_ALLOCATIONS = 16

Allocate = Callable[[OpenStreams, int], IntArray]


class BudgetPlan(msgspec.Struct, frozen=True):
    """A round's budget and the lengths that the policy makes of it."""

    budget_tokens: int
    draft_lengths: IntArray  # [num_streams]


def plan_budget(
    streams: OpenStreams, allocate: Allocate, round_seconds: FloatArray, limits: BudgetLimits
) -> BudgetPlan:
    """The largest worthwhile budget with which drafts slow no stream down beyond the limit.

    Worthwhile is what makes all devices together fastest, see `worthwhile_drafts`. The limit is on
    each stream's own tokens per second against the same round without drafts:
    T(with drafts) / T(without) <= (1 + slowdown_limit) * mu_i(S_i) for every stream i. A stream
    with S_i = 0 has mu = 1, so wherever a stream does not draft this is the plain rule
    T(with) <= (1 + limit) * T(without).

    Largest for policies that spend what they may and only add tokens as the budget grows
    ("goodspeed", "greedy"): the smallest mu_i then falls with the budget, so the longest round
    that it allows bounds every smaller budget too, and lowering the budget to that bound again
    and again ends at the largest one that holds. Other policies get one that holds.

    Args:
        streams: all that are in the round.
        allocate: the policy's rule.
        round_seconds: T with 0, 1, 2, … draft tokens, as many as the round has room for.
        limits: the operator's.
    """
    if limits.budget_tokens is not None:
        return _plan(streams, allocate, min(limits.budget_tokens, len(round_seconds) - 1))
    rates, max_lengths = streams.acceptance_rates, streams.max_lengths
    round_seconds = round_seconds[: int(max_lengths.sum()) + 1]

    def drafts_within(num_tokens_gain: float, max_num_drafts: int) -> int:
        max_seconds = (1.0 + limits.slowdown_limit) * num_tokens_gain * round_seconds[0]
        # No drafts always hold, whatever rounding does to a gain of 1.
        return min(int(np.searchsorted(round_seconds[1:], max_seconds, "right")), max_num_drafts)

    worthwhile = worthwhile_drafts(rates, max_lengths, round_seconds, streams.shares)
    budget = drafts_within(_smallest_gain(rates, max_lengths), worthwhile)
    for _ in range(MAX_ALLOCATIONS):
        plan = _plan(streams, allocate, budget)
        gain = _smallest_gain(rates, plan.draft_lengths)
        num_drafts = int(plan.draft_lengths.sum())
        budget = drafts_within(gain, num_drafts)
        if budget == num_drafts:
            return plan
    # Holds whatever the lengths are.
    return _plan(streams, allocate, drafts_within(1.0, budget))


def _plan(streams: OpenStreams, allocate: Allocate, budget_tokens: int) -> BudgetPlan:
    return BudgetPlan(budget_tokens, allocate(streams, budget_tokens))


def _smallest_gain(rates: FloatArray, lengths: IntArray) -> float:
    return float(expected_tokens(rates, lengths).min(initial=np.inf))


def worthwhile_drafts(
    rates: FloatArray, max_lengths: IntArray, round_seconds: FloatArray, shares: FloatArray
) -> int:
    """The number of draft tokens with the largest sum of w log tokens per second over devices.

    That is proportional fairness in time: the sum of shares_i * log(mu_i(S_i) / T), over all
    streams of the round, also those that do not draft. Of k tokens the most useful ones are taken:
    a token more in stream i gains shares_i * log(mu_i(s+1) / mu_i(s)), which falls with s, and
    costs every device the growth of log T. (A device's log of a sum over its streams is taken for
    the mean of their logs, which is the same where its streams are alike.)

    Args:
        rates: acceptance rates [num_streams].
        max_lengths: the longest draft of each stream [num_streams].
        round_seconds: T of the round with 0, 1, 2, ... draft tokens; ends the search.
        shares: each stream's part of its device's weight [num_streams].
    """
    if not max_lengths.any():
        return 0
    lengths = np.arange(int(max_lengths.max()) + 1)
    logs = np.log(expected_tokens(rates[:, None], lengths[None, :]))
    of_streams = shares[:, None] * np.diff(logs, axis=1)
    gains = of_streams[lengths[None, 1:] <= max_lengths[:, None]]
    most_useful = np.sort(gains)[::-1][: len(round_seconds) - 1]
    gained = np.concatenate([[0.0], np.cumsum(most_useful)])
    lost = shares.sum() * np.log(round_seconds[: len(gained)] / round_seconds[0])
    return int(np.argmax(gained - lost))
