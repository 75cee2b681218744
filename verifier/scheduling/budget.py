"""The budget of a round: how many draft tokens it may hold over all streams.

The budget is a setting, or follows from one number that a user understands, `slowdown_limit`.
This module must never pick a stream's length itself: the policy does.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from shared.speculation.goodput import FloatArray, IntArray, expected_tokens
from verifier.cost_curve.curve import CostCurve
from verifier.policies.draft_length_policy import DraftLengthPolicy, StreamShare

# Allocations tried for one round; 1,500 random fleets took 1 to 4 (see `plan_budget`).
MAX_ALLOCATIONS = 16


class BudgetLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that bound a round."""

    max_round_tokens: int
    """Drafts + one token per stream + prefill; what the engine can hold."""
    budget_tokens: int | None
    """A fixed budget, or `None` to derive it from `slowdown_limit`."""
    slowdown_limit: float
    """By how much drafts may lengthen a round for each stream, in relation to what it gains."""

    def less(self, num_draft_tokens: int) -> BudgetLimits:
        """The limits of what is left when so many draft tokens have their place already."""
        if self.budget_tokens is None or not num_draft_tokens:
            return self
        remaining_tokens = max(self.budget_tokens - num_draft_tokens, 0)
        return msgspec.structs.replace(self, budget_tokens=remaining_tokens)


class BudgetPlan(msgspec.Struct, frozen=True):
    """A round's budget and the lengths that the policy makes of it."""

    budget_tokens: int
    draft_lengths: tuple[int, ...]


def plan_budget(
    streams: Sequence[StreamShare],
    policy: DraftLengthPolicy,
    curve: CostCurve,
    context_tokens: float,
    limits: BudgetLimits,
    *,
    num_other_tokens: int = 0,
) -> BudgetPlan:
    """The largest worthwhile budget with which drafts slow no stream down beyond the limit.

    Worthwhile is what makes all streams together fastest, see `worthwhile_drafts`. The limit is on
    each stream's own tokens per second against the same round without drafts:
    T(n + drafts) / T(n) <= (1 + slowdown_limit) * mu_i(S_i) for every stream i, with n the tokens
    that are in the round anyway. A stream with S_i = 0 has mu = 1, so wherever a stream does not
    draft this is the plain rule T(with) <= (1 + limit) * T(without).

    Largest for policies that spend what they may and only add tokens as the budget grows
    ("goodspeed", "greedy"): the smallest mu_i then falls with the budget, so the longest round
    that it allows bounds every smaller budget too, and lowering the budget to that bound again
    and again ends at the largest one that holds. Other policies get one that holds.
    """
    num_others = len(streams) + num_other_tokens
    max_drafts = max(limits.max_round_tokens - num_others, 0)
    if limits.budget_tokens is not None:
        return _plan(streams, policy, min(limits.budget_tokens, max_drafts))
    rates = np.array([stream.acceptance_rate for stream in streams], dtype=np.float64)
    max_lengths = np.array([stream.max_length for stream in streams], dtype=np.int64)
    counts = num_others + np.arange(min(int(max_lengths.sum()), max_drafts) + 1)
    round_seconds = curve.rounds_seconds(counts, context_tokens)

    def drafts_within(num_tokens_gain: float, max_num_drafts: int) -> int:
        max_seconds = (1.0 + limits.slowdown_limit) * num_tokens_gain * round_seconds[0]
        # No drafts always hold, whatever rounding does to a gain of 1.
        return min(int(np.searchsorted(round_seconds[1:], max_seconds, "right")), max_num_drafts)

    worthwhile = worthwhile_drafts(rates, max_lengths, round_seconds)
    budget = drafts_within(_smallest_gain(rates, max_lengths), worthwhile)
    for _ in range(MAX_ALLOCATIONS):
        plan = _plan(streams, policy, budget)
        gain = _smallest_gain(rates, np.array(plan.draft_lengths, dtype=np.int64))
        num_drafts = sum(plan.draft_lengths)
        budget = drafts_within(gain, num_drafts)
        if budget == num_drafts:
            return plan
    # Holds whatever the lengths are.
    return _plan(streams, policy, drafts_within(1.0, budget))


def _plan(
    streams: Sequence[StreamShare], policy: DraftLengthPolicy, budget_tokens: int
) -> BudgetPlan:
    return BudgetPlan(budget_tokens, tuple(policy.allocate(streams, budget_tokens)))


def _smallest_gain(rates: FloatArray, lengths: IntArray) -> float:
    return float(expected_tokens(rates, lengths).min(initial=np.inf))


def worthwhile_drafts(rates: FloatArray, max_lengths: IntArray, round_seconds: FloatArray) -> int:
    """The number of draft tokens with the largest sum of log tokens per second.

    That is proportional fairness in time: sum_i log(mu_i(S_i) / T), over all streams of the round,
    also those that do not draft. Of k tokens the most useful ones are taken: a token more in
    stream i gains log(mu_i(s+1) / mu_i(s)), which falls with s, and costs each stream the growth
    of log T.

    Args:
        rates: acceptance rates [num_streams].
        max_lengths: the longest draft of each stream [num_streams].
        round_seconds: T of the round with 0, 1, 2, ... draft tokens; ends the search.
    """
    if not max_lengths.any():
        return 0
    lengths = np.arange(int(max_lengths.max()) + 1)
    logs = np.log(expected_tokens(rates[:, None], lengths[None, :]))
    gains = np.diff(logs, axis=1)[lengths[None, 1:] <= max_lengths[:, None]]
    most_useful = np.sort(gains)[::-1][: len(round_seconds) - 1]
    gained = np.concatenate([[0.0], np.cumsum(most_useful)])
    lost = len(rates) * np.log(round_seconds[: len(gained)] / round_seconds[0])
    return int(np.argmax(gained - lost))
