"""How much each board may draft next: estimates and costs in, draft lengths and windows out.

This module must never keep state of its own; streams and estimates carry it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from verifier.cost_curve.curve import CostCurve
from verifier.policies import DraftLengthPolicy, StreamShare
from verifier.scheduling.budget import BudgetLimits, plan_budget
from verifier.scheduling.draft_payoff import (
    DraftCosts,
    best_length,
)
from verifier.scheduling.waiting import (
    SMALLEST_PUNCTUALITY,
    draft_seconds,
    length_worth_waiting_for,
)
from verifier.scheduling.window import window_of
from verifier.streams.estimates import latest_arrival_seconds
from verifier.streams.probe_clock import PROBE_LENGTH
from verifier.streams.stream import Stream


class ScheduleSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator sets about draft lengths."""

    limits: BudgetLimits
    max_draft_length: int
    max_window: int
    uses_guard: bool  # the target goes on alone where drafts do not pay


class Grant(msgspec.Struct, frozen=True):
    """What one stream's board may do next."""

    draft_length: int  # tokens that one Draft should hold
    window: int  # tokens beyond the committed position; draft-ahead is a window above the length
    awaited_seconds: float = 0.0  # how long the stream may sit out for a whole draft; 0: not at all


class Schedule(msgspec.Struct, frozen=True):
    """Draft lengths for all open streams."""

    budget_tokens: int
    grants: tuple[Grant, ...]


def schedule(
    streams: Sequence[Stream],
    policy: DraftLengthPolicy,
    curve: CostCurve,
    settings: ScheduleSettings,
    now: float,
) -> Schedule:
    """Share the budget of a round over all open streams."""
    context_tokens = float(sum(stream.num_tokens for stream in streams))
    round_seconds = curve.round_seconds(len(streams), context_tokens)
    # Over a whole draft: from one token to the next a measured curve may jump either way.
    longest = max(settings.max_draft_length, 1)
    drafted_seconds = curve.round_seconds(len(streams) + longest, context_tokens)
    token_seconds = (drafted_seconds - round_seconds) / longest
    costs = [_costs(stream, round_seconds, token_seconds) for stream in streams]
    shares = [
        StreamShare(
            acceptance_rate=cost.acceptance_rate,
            goodput=stream.device_estimates.goodput.tokens_per_round,
            max_length=_longest(stream, cost, settings, now),
        )
        for stream, cost in zip(streams, costs, strict=True)
    ]
    plan = plan_budget(shares, policy, curve, context_tokens, settings.limits)
    grants = tuple(
        _grant(stream, cost, length, settings, is_alone=len(streams) == 1)
        for stream, cost, length in zip(streams, costs, plan.draft_lengths, strict=True)
    )
    return Schedule(budget_tokens=plan.budget_tokens, grants=grants)


def _costs(stream: Stream, round_seconds: float, token_seconds: float) -> DraftCosts:
    speed = stream.estimates.speed
    return DraftCosts(
        acceptance_rate=stream.estimates.acceptance.rate,
        draft_token_seconds=speed.draft_token_seconds or 0.0,
        round_trip_seconds=speed.round_trip_seconds or 0.0,
        round_seconds=round_seconds,
        token_seconds=token_seconds,
        waits=stream.request.mode == "rejection",
    )


def _longest(stream: Stream, costs: DraftCosts, settings: ScheduleSettings, now: float) -> int:
    """The longest draft that the stream can use; 0 while it has no board or drafts do not pay."""
    if not stream.can_draft or stream.request.draft_length is not None:
        return 0
    if not settings.uses_guard:
        return settings.max_draft_length
    length = best_length(costs, settings.max_draft_length)
    if length:
        stream.probe.drafts_pay()
        return length
    wait_seconds = draft_seconds(costs, PROBE_LENGTH) if costs.waits else 0.0
    return min(stream.probe.probe_length(now, wait_seconds), settings.max_draft_length)


def _longest_testable(settings: ScheduleSettings) -> int:
    """A chunk must meet the target, so what no round has room for is not granted."""
    limits = settings.limits
    budget = settings.max_draft_length if limits.budget_tokens is None else limits.budget_tokens
    return min(settings.max_draft_length, budget, limits.max_round_tokens - 1)


def _grant(
    stream: Stream, costs: DraftCosts, length: int, settings: ScheduleSettings, *, is_alone: bool
) -> Grant:
    """A Draft for the next round, beyond what the round that starts now is going to decide."""
    request = stream.request
    if request.draft_length is not None and stream.can_draft:
        length = min(request.draft_length, _longest_testable(settings))
    room = min(request.max_output_tokens - stream.position - 1, stream.draft_room)
    if length == 0 or room <= 0:
        return Grant(0, 0)
    is_limited = settings.uses_guard and request.draft_length is None
    rate = costs.acceptance_rate if is_limited else None
    window = window_of(stream, length, rate, costs.round_seconds)
    window = min(window, settings.max_window, room)
    if request.mode == "coupled":
        if window <= len(stream.path.live) + 1:
            window = len(stream.path.live)
        elif is_limited and not stream.path.live:
            awaited = _awaited_length(stream, costs, min(length, window), is_alone=is_alone)
            if awaited:
                seconds = latest_arrival_seconds(draft_seconds(costs, awaited))
                return Grant(awaited, window, seconds)
    return Grant(min(length, window), window) if window > 0 else Grant(0, 0)


def _awaited_length(stream: Stream, costs: DraftCosts, longest: int, *, is_alone: bool) -> int:
    """For how long a draft the stream should sit out, if its board mostly keeps its times."""
    speed = stream.estimates.speed
    if speed.round_trip_seconds is None or speed.punctuality < SMALLEST_PUNCTUALITY:
        return 0
    return length_worth_waiting_for(costs, longest, is_alone=is_alone)
