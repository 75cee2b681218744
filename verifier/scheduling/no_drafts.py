"""Why a stream's board drafts nothing just now, in words: for people who look at the verifier.

It reads what the scheduler has decided and from what, and asks the same functions again. Pure, and
for any thread. This module must never decide anything, nor be asked by what does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from verifier.scheduling.draft_payoff import best_lengths
from verifier.scheduling.draft_plan import DraftPlan
from verifier.scheduling.gathered import gather
from verifier.scheduling.schedule import draft_costs
from verifier.scheduling.schedule_settings import ScheduleSettings
from verifier.streams.place import Place
from verifier.streams.stream import Stream

Cause = Literal[
    "off",
    "away",
    "room",
    "prompt",
    "silent",
    "context",
    "begins",
    "ends",
    "pay",
    "measured",
    "budget",
    "late",
]


class NoDrafts(NamedTuple):
    """One stream at S = 0."""

    cause: Cause
    sentence: str


_OF_PLACE = {
    Place.QUEUED: NoDrafts("room", "waits for room in the cache"),
    Place.PREEMPTED: NoDrafts("room", "lost its place in the cache and waits for room"),
    Place.PARKING: NoDrafts("away", "its board is away, and the stream is kept for it"),
    Place.PARKED: NoDrafts("away", "its board is away, and the stream is kept for it"),
}
_OFF = NoDrafts("off", "speculation is off for this stream (draft_length 0)")
_ARRIVES = NoDrafts("prompt", "its prompt is still arriving")
_READS = NoDrafts("prompt", "its board is still reading the prompt")
_SILENT = NoDrafts("silent", "its board owed a draft for too long: until it is heard of again")
_NO_CONTEXT = NoDrafts("context", "the context of its board's model is full")
_BEGINS = NoDrafts("begins", "the next round's end grants its first draft")
_ENDS = NoDrafts("ends", "the answer is about to end")
_DEAR = NoDrafts("pay", "its drafts are not worth the delay that they cause to all")
_LATE = NoDrafts("late", "rounds overtake its drafts: what lies beyond them hardly survives")


def reasons_for_no_drafts(
    streams: Sequence[Stream], plan: DraftPlan, settings: ScheduleSettings
) -> list[NoDrafts | None]:
    """For each stream why its draft length is 0, or None where it is not.

    Args:
        streams: open ones, with a place in the cache or not.
        plan: the latest one.
        settings: those that it was made with.
    """
    reasons = [None if s.draft_length else _before_planning(s, plan) for s in streams]
    planned = [i for i, s in enumerate(streams) if reasons[i] is None and not s.draft_length]
    if planned:
        for i, reason in zip(
            planned, _of_plan([streams[i] for i in planned], plan, settings), strict=True
        ):
            reasons[i] = reason
    return reasons


def _before_planning(stream: Stream, plan: DraftPlan) -> NoDrafts | None:
    """What keeps the stream out of the plan; None: nothing."""
    of_place = _OF_PLACE.get(stream.place)
    if of_place is not None:
        return of_place
    if stream.request.draft_length == 0:
        return _OFF
    if stream.is_arriving:
        return _ARRIVES
    if plan.rest_sentence is not None and plan.lets_rest(stream):
        return NoDrafts("measured", plan.rest_sentence)
    if not stream.board_is_ready:
        return _SILENT if stream.path_granted_at else _READS
    if not stream.draft_room:
        return _NO_CONTEXT
    return None if stream.number in plan.streams else _BEGINS


def _of_plan(
    streams: Sequence[Stream], plan: DraftPlan, settings: ScheduleSettings
) -> list[NoDrafts]:
    """Why streams of the plan have no draft all the same."""
    lengths = [plan.streams[stream.number].length for stream in streams]
    pays = np.ones(len(streams), dtype=np.bool_)
    if settings.uses_guard:
        costs = draft_costs(gather(streams), plan.round_seconds, plan.token_seconds)
        pays = best_lengths(costs, settings.max_draft_length) > 0
    return [
        _of_planned(stream, length, bool(pay), plan)
        for stream, length, pay in zip(streams, lengths, pays, strict=True)
    ]


def _of_planned(stream: Stream, length: int, pays: bool, plan: DraftPlan) -> NoDrafts:
    if stream.request.max_output_tokens - stream.position <= 1:
        return _ENDS
    if length:
        return _LATE
    if plan.streams[stream.number].depth is not None and stream.request.draft_length is None:
        return _DEAR
    if not pays and stream.request.draft_length is None:
        return NoDrafts("pay", f"drafts do not pay: {_loss(stream, plan)}")
    return NoDrafts(
        "budget",
        f"the {plan.budget_tokens} draft tokens of a round went to other streams"
        if plan.budget_tokens
        else "a round has no room for drafts: they would slow other streams down",
    )


def _loss(stream: Stream, plan: DraftPlan) -> str:
    """What drafts cost more than they bring, as `best_lengths` weighs it."""
    speed, acceptance = stream.estimates.speed, stream.estimates.acceptance.rate
    token_seconds = speed.draft_token_seconds or 0.0
    rounds = f"a round takes {_milliseconds(plan.round_seconds)}"
    if stream.request.mode == "rejection":
        return (
            f"{acceptance:.0%} accepted is too little for a round trip of "
            f"{_milliseconds(speed.round_trip_seconds or 0.0)} and {_milliseconds(token_seconds)} "
            f"a draft token, where {rounds}"
        )
    if token_seconds >= plan.round_seconds:
        return f"one draft token takes {_milliseconds(token_seconds)}, and {rounds}"
    return (
        f"{acceptance:.0%} accepted is too little for the "
        f"{_milliseconds(plan.token_seconds)} that a draft token adds, where {rounds}"
    )


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.2g} ms" if seconds < 0.01 else f"{seconds * 1e3:.0f} ms"
