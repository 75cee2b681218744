"""Why a board drafts nothing, in words, from the very states that made it so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shared.speculation.goodput import IntArray
from tests.support.ends.limits import make_budget_limits, make_schedule_settings
from tests.support.ends.planning import (
    add,
    draft,
    live_ids,
    make_curve,
    make_planner,
    make_stream,
    play,
    start,
)
from verifier.cost_curve.curve import CostCurve
from verifier.policies import (
    BudgetedPolicy,
    DraftPolicy,
    FixedPolicy,
    OpenStreams,
    RatePolicy,
)
from verifier.rounds.planner import RoundPlanner
from verifier.scheduling.draft_plan import NO_PLAN, DraftPlan
from verifier.scheduling.no_drafts import NoDrafts, reasons_for_no_drafts
from verifier.scheduling.schedule import grant_draft, plan_drafts
from verifier.streams.stream import Stream


def reason(planner: RoundPlanner, stream: Stream) -> NoDrafts | None:
    (found,) = reasons_for_no_drafts([stream], planner.draft_plan, planner.settings.schedule)
    return found


def cause(planner: RoundPlanner, stream: Stream) -> str | None:
    found = reason(planner, stream)
    return None if found is None else found.cause


def test_a_stream_without_room_waits_for_it() -> None:
    planner = make_planner(num_blocks=8)
    first, second = (make_stream(number, max_output_tokens=20) for number in (1, 2))
    add(planner, first, second)
    start(planner)
    assert ["prompt", "room"] == [cause(planner, first), cause(planner, second)]


def test_a_board_reads_the_prompt_then_drafts_then_is_silent_then_away_then_reads_again() -> None:
    planner = make_planner(draft_timeout_seconds=5.0)
    stream = make_stream(mode="rejection")
    add(planner, stream)
    play(planner, 1.0)
    assert "prompt" == cause(planner, stream)
    stream.board_is_ready = True
    assert "begins" == cause(planner, stream)
    play(planner, 2.0)
    assert 0 < stream.draft_length
    assert None is cause(planner, stream)
    play(planner, 9.0)  # the draft that it owes has not come for 5 s
    assert "silent" == cause(planner, stream)
    planner.park(stream)
    assert "away" == cause(planner, stream)
    stream.attach(stream.position, 1000)
    planner.unpark(stream)
    assert "prompt" == cause(planner, stream)


def test_an_open_that_goes_on_keeps_the_board_waiting() -> None:
    planner = make_planner()
    stream = make_stream()
    stream.is_arriving = True
    add(planner, stream)
    planner.admission.admit(0, 0.0)
    found = reason(planner, stream)
    assert found is not None
    assert "its prompt is still arriving" == found.sentence


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"draft_length": 0}, "off"),
        ({"draft_context_tokens": 5}, "context"),
        ({"max_output_tokens": 2}, "ends"),
    ],
)
def test_what_a_request_allows_is_said(request_: dict[str, Any], expected: str) -> None:
    planner = make_planner()
    stream = make_stream(**request_)
    add(planner, stream)
    stream.board_is_ready = True
    play(planner, 1.0)
    assert 0 == stream.draft_length
    assert expected == cause(planner, stream)


STEEP_CURVE = CostCurve.from_samples([(0, 16, 0.1), (100, 16, 1.1)])


def granted(
    *streams: Stream,
    policy: DraftPolicy | None = None,
    curve: CostCurve | None = None,
    **limits: Any,
) -> tuple[DraftPlan, list[NoDrafts | None]]:
    """The plan of the streams, which are granted their drafts by it, and the reasons then."""
    settings = make_schedule_settings(
        limits=make_budget_limits(
            max_round_tokens=256, budget_tokens=limits.get("budget_tokens", 64)
        ),
        max_draft_length=8,
        max_window=100,
        uses_guard=limits.get("uses_guard", True),
    )
    plan = plan_drafts(streams, policy or FixedPolicy(4), curve or make_curve(), settings, 1.0)
    for stream in streams:
        planner_grant = grant_draft(stream, plan, settings)
        stream.grant(planner_grant.draft_length, planner_grant.window, 1.0)
    return plan, reasons_for_no_drafts(streams, plan, settings)


def admitted(*streams: Stream) -> RoundPlanner:
    planner = make_planner()
    add(planner, *streams)
    planner.admission.admit(0, 0.0)
    for stream in streams:
        stream.board_is_ready = True
    return planner


def learnt(stream: Stream, *, acceptance: float, token_seconds: float, round_trip: float) -> Stream:
    estimates = stream.estimates
    for _ in range(200):
        estimates.acceptance.observe_probs([acceptance])
    estimates.speed.draft_token_seconds = token_seconds
    estimates.speed.round_trip_seconds = round_trip
    return stream


@pytest.mark.parametrize(
    ("mode", "learnt_of_it", "sentence"),
    [
        (
            "coupled",
            {"acceptance": 0.9, "token_seconds": 0.25, "round_trip": 0.01},
            "drafts do not pay: one draft token takes 250 ms, and a round takes 110 ms",
        ),
        (
            "coupled",
            {"acceptance": 0.05, "token_seconds": 0.01, "round_trip": 0.01},
            "drafts do not pay: 5% accepted is too little for the 10 ms that a draft token adds, "
            "where a round takes 110 ms",
        ),
        (
            "rejection",
            {"acceptance": 0.2, "token_seconds": 0.02, "round_trip": 0.3},
            "drafts do not pay: 20% accepted is too little for a round trip of 300 ms and 20 ms "
            "a draft token, where a round takes 110 ms",
        ),
    ],
)
def test_drafts_that_do_not_pay_are_weighed_in_words(
    mode: str, learnt_of_it: dict[str, float], sentence: str
) -> None:
    stream = learnt(make_stream(mode=mode, max_output_tokens=100), **learnt_of_it)
    admitted(stream)
    _, (found,) = granted(stream, curve=STEEP_CURVE)
    assert NoDrafts("pay", sentence) == found


def test_without_the_guard_nothing_is_said_not_to_pay() -> None:
    stream = make_stream(max_output_tokens=100)
    admitted(learnt(stream, acceptance=0.01, token_seconds=0.5, round_trip=0.3))
    _, (found,) = granted(stream, uses_guard=False)
    assert None is found


@pytest.mark.parametrize(
    ("budget_tokens", "sentence"),
    [
        (4, "the 4 draft tokens of a round went to other streams"),
        (0, "a round has no room for drafts: they would slow other streams down"),
    ],
)
def test_a_budget_that_is_spent_is_named(budget_tokens: int, sentence: str) -> None:
    class AllToTheFirst(BudgetedPolicy):
        def allocate(self, streams: OpenStreams, budget_tokens: int) -> IntArray:
            return np.array([min(budget_tokens, 4), *[0] * (len(streams) - 1)])

    streams = [make_stream(number, device=f"{number}", max_output_tokens=100) for number in (1, 2)]
    for stream in streams:
        learnt(stream, acceptance=0.9, token_seconds=0.001, round_trip=0.001)
    admitted(*streams)
    _, reasons = granted(*streams, policy=AllToTheFirst(), budget_tokens=budget_tokens)
    assert NoDrafts("budget", sentence) == reasons[1]
    assert (None if budget_tokens else NoDrafts("budget", sentence)) == reasons[0]


def test_a_window_that_rounds_overtake_is_named() -> None:
    planner = make_planner(max_window=1)
    stream = make_stream(max_output_tokens=100)
    add(planner, stream)
    stream.board_is_ready = True
    play(planner, 1.0)
    assert 0 == stream.draft_length
    assert "late" == cause(planner, stream)


def test_before_the_first_round_a_board_that_is_ready_begins() -> None:
    stream = make_stream()
    planner = admitted(stream)
    assert planner.draft_plan is NO_PLAN
    assert "begins" == cause(planner, stream)


def test_many_streams_get_a_reason_each() -> None:
    off = [make_stream(number, draft_length=0) for number in (1, 3)]
    drafting = make_stream(2, max_output_tokens=100)
    planner = admitted(*off, drafting)
    play(planner, 1.0)
    streams = [off[0], drafting, off[1]]
    found = reasons_for_no_drafts(streams, planner.draft_plan, planner.settings.schedule)
    assert ["off", None, "off"] == [None if one is None else one.cause for one in found]


def test_a_draft_that_came_changes_no_reason() -> None:
    stream = make_stream(max_output_tokens=100)
    planner = admitted(stream)
    play(planner, 1.0)
    draft(stream, 30, 31)
    assert [30, 31] == live_ids(stream)
    assert None is cause(planner, stream)


def test_drafts_that_a_price_rules_out_are_named() -> None:
    """Where a token takes so long that it costs two devices more than it brings one of them."""
    streams = [make_stream(number, device=f"{number}", max_output_tokens=100) for number in (1, 2)]
    for stream, acceptance in zip(streams, (0.9, 0.05), strict=True):
        learnt(stream, acceptance=acceptance, token_seconds=0.001, round_trip=0.001)
    admitted(*streams)
    dear = CostCurve.from_samples([(0, 16, 0.1), (100, 16, 0.6)])
    _, reasons = granted(*streams, policy=RatePolicy(), curve=dear, uses_guard=False)
    sentence = "its drafts are not worth the delay that they cause to all"
    assert [None, NoDrafts("pay", sentence)] == reasons
