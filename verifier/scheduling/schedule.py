"""How much each board may draft next: estimates and costs in, draft lengths and windows out.

In two steps, because the next round must not wait for the first one: `plan_drafts` shares a budget
over all streams, while a round runs; `grant_draft` gives one stream its part when that round has
committed its tokens. This module must never keep state of its own; streams and estimates carry it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from verifier.cost_curve.curve import CostCurve
from verifier.policies import DraftPolicy, LengthPlan, affordable
from verifier.scheduling.awaited import Awaited, Beside, awaited_drafts
from verifier.scheduling.draft_payoff import DraftCosts, best_lengths
from verifier.scheduling.draft_plan import (
    NO_DRAFTS,
    NO_PLAN,
    NOTHING,
    DraftPlan,
    Grant,
    StreamPlan,
)
from verifier.scheduling.gathered import Gathered, Read, gather
from verifier.scheduling.outlook import NO_PACE, BareRound, Pace, keep_memories, outlook_on
from verifier.scheduling.row_price import draft_prices
from verifier.scheduling.schedule_settings import ScheduleSettings
from verifier.scheduling.window import window_of
from verifier.streams.estimates import latest_arrival_seconds
from verifier.streams.probe_clock import PROBE_LENGTH
from verifier.streams.stream import Stream


def plan_drafts(
    streams: Sequence[Stream],
    policy: DraftPolicy,
    curve: CostCurve,
    settings: ScheduleSettings,
    now: float,
    *,
    beside: DraftPlan = NO_PLAN,
    pace: Pace = NO_PACE,
    rest_sentence: str | None = None,
    read: Read = gather,
) -> DraftPlan:
    """Share the budget of a round over these streams, in what the plan `beside` leaves of it.

    A length that a request fixes is a wish: as long as all streams are of one device it is granted
    beside the budget, else the policy gives as much of it as of what pays, but it is not vetoed.
    With a `rest_sentence` all other boards draft nothing. `read`: how the streams are gathered.

    Returns the plan of both.
    """
    known = read(streams)
    devices = beside.devices.union(known.devices)
    grants_wishes = len(devices) <= 1
    num_streams = beside.num_streams + len(streams)
    context_tokens = beside.context_tokens + sum([stream.num_tokens for stream in streams])
    round_seconds = curve.round_seconds(num_streams, context_tokens)
    # Over a whole draft: from one token to the next a measured curve may jump either way.
    whole_length = max(settings.max_draft_length, 1)
    drafted_seconds = curve.round_seconds(num_streams + whole_length, context_tokens)
    token_seconds = (drafted_seconds - round_seconds) / whole_length
    costs = draft_costs(known, round_seconds, token_seconds)
    prices = draft_prices(streams, token_seconds)
    can_draft = _can_draft(streams, rests=rest_sentence is not None)
    guard = costs if settings.uses_guard and not policy.weighs_payoff else None
    longest_lengths = _max_lengths(
        streams, can_draft, guard, settings, now, grants_wishes=grants_wishes
    )
    limits = settings.limits.less(beside.num_draft_tokens)
    num_tokens = num_streams + beside.num_draft_tokens
    most_drafts = max(sum(longest_lengths), limits.budget_tokens or 0)
    most_drafts = min(most_drafts, limits.max_round_tokens - num_tokens)
    round_ = BareRound(num_tokens, context_tokens, most_drafts, devices)
    weights = settings.device_weights
    made = policy.plan(outlook_on(round_, known, longest_lengths, curve, pace, weights), limits)
    keep_memories(streams, made.memories)
    wishes = _wishes(streams, can_draft, settings) if grants_wishes else [0] * len(streams)
    lengths = _lengths_paid_for(made, prices, wishes)
    depths: list[int | None] = [None] * len(streams)
    if made.depths is not None:
        depths = made.depths.tolist()
        _grant_probes(streams, can_draft, lengths, depths, now)
    awaited = _awaited(known, costs, lengths, settings, beside)
    leasts = _least_survivals(made, awaited.lengths)
    columns = zip(lengths, awaited.lengths, awaited.longest, depths, leasts, strict=True)
    plans = map(StreamPlan._make, columns)  # in a third of the time of a call for each
    pairs = zip(streams, can_draft, plans, strict=True)
    of_streams = {stream.number: plan for stream, can, plan in pairs if can}
    return DraftPlan(
        budget_tokens=beside.num_draft_tokens + made.budget_tokens + sum(wishes),
        num_streams=num_streams,
        context_tokens=context_tokens,
        round_seconds=round_seconds,
        token_seconds=token_seconds,
        streams={**beside.streams, **of_streams} if beside.streams else of_streams,
        devices=devices,
        rest_sentence=rest_sentence,
        holds_rounds=awaited.holds_rounds and (beside.holds_rounds or beside is NO_PLAN),
    )


def grant_draft(stream: Stream, plan: DraftPlan, settings: ScheduleSettings) -> Grant:
    """A Draft for the next round, beyond what the round that starts now is going to decide."""
    request = stream.request
    length, awaited_length, longest_awaited, depth, least = plan.streams.get(stream.number, NOTHING)
    stream.estimates.chances.least_survival = least
    if not stream.can_draft:
        return NO_DRAFTS
    switched_to = stream.estimates.mode.observe(length)
    if switched_to is not None:
        stream.device_estimates.windows.count_switch(switched_to)
    if not (length or depth):
        return NO_DRAFTS
    room = min(request.max_output_tokens - stream.position - 1, stream.draft_room)
    if room <= 0:
        return NO_DRAFTS
    if depth is not None and request.mode == "coupled" and request.draft_length is None:
        window = max(depth, length + 1) if length else depth
    elif length:
        is_limited = settings.uses_guard and request.draft_length is None
        rate = stream.estimates.acceptance.rate if is_limited else None
        window = window_of(stream, length, rate, plan.round_seconds)
    else:
        return NO_DRAFTS  # in `rejection` what is drafted must be tested
    window = min(window, settings.max_window, room)
    if request.mode == "coupled":
        num_live = len(stream.path.live)
        if window <= num_live + 1:
            window = num_live
        elif awaited_length and not num_live:
            # A board that knows which of its tokens are sure stops by itself.
            stops = least > 0.0 and stream.estimates.chances.best_chance > 0.0
            longest = min(longest_awaited, settings.longest_of(stream.device))
            awaited = min(longest if stops else awaited_length, window)
            seconds = stream.estimates.speed.answer_seconds(awaited)
            return Grant(awaited, window, latest_arrival_seconds(seconds))
    elif awaited_length and not stream.path.live and window > 0:
        seconds = stream.estimates.speed.answer_seconds(min(length, window))
        return Grant(min(length, window), window, latest_arrival_seconds(seconds))
    return Grant(min(length, window), window) if window > 0 else NO_DRAFTS


def draft_costs(streams: Gathered, round_seconds: float, token_seconds: float) -> DraftCosts:
    """What decides whether drafts of these streams pay, where a round takes so long."""
    return DraftCosts(
        acceptance_rates=streams.acceptance_rates,
        draft_token_seconds=streams.draft_token_seconds,
        round_trip_seconds=streams.round_trip_seconds,
        waits=streams.waits,
        round_seconds=round_seconds,
        token_seconds=token_seconds,
    )


def _can_draft(streams: Sequence[Stream], *, rests: bool) -> list[bool]:
    """Whether each board can, and where boards rest, whether its request fixes a length."""
    if not rests:
        return [stream.can_draft for stream in streams]
    return [stream.can_draft and stream.request.draft_length is not None for stream in streams]


def _max_lengths(
    streams: Sequence[Stream],
    can_draft: Sequence[bool],
    costs: DraftCosts | None,
    settings: ScheduleSettings,
    now: float,
    *,
    grants_wishes: bool,
) -> list[int]:
    """The longest draft that each can use.

    0 where the board cannot draft, where drafts do not pay by these costs (None: they are not
    asked), and where a wish is granted anyway.
    """
    max_length = settings.max_draft_length
    if costs is not None:
        best_of_streams = best_lengths(costs, max_length).tolist()
    else:
        best_of_streams = [max_length] * len(streams)
    has_caps, lengths = bool(settings.device_caps), []
    for stream, can, length in zip(streams, can_draft, best_of_streams, strict=True):
        if not can:
            lengths.append(0)
        elif stream.request.draft_length is None:
            if costs is not None:
                length = _choose_length(stream, length, max_length, now)
            lengths.append(min(length, settings.longest_of(stream.device)) if has_caps else length)
        else:
            lengths.append(0 if grants_wishes else _asked_length(stream, settings))
    return lengths


def _grant_probes(
    streams: Sequence[Stream],
    can_draft: Sequence[bool],
    lengths: list[int],
    depths: list[int | None],
    now: float,
) -> None:
    """A few tokens now and then of boards whose drafts a policy refuses.

    Where the stream does not wait for them they need not be tested: the target's own tokens show
    what they are worth, and no stream is slower for it.
    """
    for i, stream in enumerate(streams):
        if not can_draft[i] or stream.request.draft_length is not None:
            continue
        if lengths[i]:
            stream.probe.restart()
        elif stream.request.mode == "coupled":
            depths[i] = stream.probe.grant_probe(now)
        else:
            wait_seconds = stream.estimates.speed.answer_seconds(PROBE_LENGTH)
            lengths[i] = stream.probe.grant_probe(now, wait_seconds)


def _choose_length(stream: Stream, best_length: int, max_length: int, now: float) -> int:
    """A short draft now and then where drafts do not pay."""
    if best_length:
        stream.probe.restart()
        return best_length
    waits = stream.request.mode == "rejection"
    wait_seconds = stream.estimates.speed.answer_seconds(PROBE_LENGTH) if waits else 0.0
    return min(stream.probe.grant_probe(now, wait_seconds), max_length)


def _lengths_paid_for(
    made: LengthPlan, prices: Sequence[float], wishes: Sequence[int]
) -> list[int]:
    """What a policy's lengths come to where a token costs more than one; wishes as they are."""
    lengths: list[int] = made.lengths.tolist()
    if not any(wishes) and prices.count(1.0) == len(prices):
        return lengths
    shares = zip(wishes, lengths, prices, strict=True)
    return [wish or affordable(length, price) for wish, length, price in shares]


def _wishes(
    streams: Sequence[Stream], can_draft: Sequence[bool], settings: ScheduleSettings
) -> list[int]:
    """The lengths that requests fix; 0: none."""
    return [
        _asked_length(stream, settings) if can else 0
        for stream, can in zip(streams, can_draft, strict=True)
    ]


def _asked_length(stream: Stream, settings: ScheduleSettings) -> int:
    """What the request fixes, as far as a round can test it."""
    longest = min(settings.longest_testable, settings.longest_of(stream.device))
    return min(stream.request.draft_length or 0, longest)


def _awaited(
    streams: Gathered,
    costs: DraftCosts,
    lengths: Sequence[int],
    settings: ScheduleSettings,
    beside: DraftPlan,
) -> Awaited:
    """What is waited for, with the streams of another plan beside these; nothing unguarded."""
    if not settings.uses_guard:
        nothing = [0] * len(lengths)
        return Awaited(nothing, nothing, holds_rounds=False)
    terms = Beside(beside.num_streams, settings.max_draft_length)
    return awaited_drafts(streams, costs, lengths, terms)


def _least_survivals(made: LengthPlan, awaited: Sequence[int]) -> list[float]:
    """Where boards should stop, whose streams sit out for drafts of these lengths or do not."""
    if made.least_survivals is None or made.waited_survivals is None:
        return [0.0] * len(awaited)
    waited = np.where(np.array(awaited) > 0, made.waited_survivals, made.least_survivals)
    return waited.tolist()  # type: ignore[no-any-return]
