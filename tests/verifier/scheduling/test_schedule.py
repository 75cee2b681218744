"""Grants: how much each board may draft, from estimates, budget and limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from shared.protocol.draft_path import DraftPath, DraftToken
from shared.speculation.goodput import IntArray
from tests.support.ends.limits import make_budget_limits, make_schedule_settings
from tests.support.ends.planning import make_curve, make_stream
from verifier.policies import (
    BudgetedPolicy,
    FixedPolicy,
    GoodspeedPolicy,
    OpenStreams,
    RatePolicy,
)
from verifier.scheduling.draft_payoff import SMALLEST_SURVIVAL_ON_THE_WAY, worthwhile_depth
from verifier.scheduling.draft_plan import NO_PLAN, DraftPlan, Grant
from verifier.scheduling.schedule import grant_draft, plan_drafts
from verifier.scheduling.schedule_settings import ScheduleSettings
from verifier.streams.probe_clock import FIRST_PROBE_PAUSE_SECONDS, PROBE_LENGTH
from verifier.streams.stream import Stream


class WatchedPolicy(BudgetedPolicy):
    """Gives everybody all that he can use, and remembers what it was told."""

    def __init__(self) -> None:
        self.streams: OpenStreams | None = None

    def allocate(self, streams: OpenStreams, budget_tokens: int) -> IntArray:
        self.streams = streams
        return streams.max_lengths


def settings(
    *,
    budget_tokens: int | None = 64,
    max_round_tokens: int = 256,
    max_draft_length: int = 8,
    max_window: int = 100,
    uses_guard: bool = False,
) -> ScheduleSettings:
    return make_schedule_settings(
        limits=make_budget_limits(max_round_tokens=max_round_tokens, budget_tokens=budget_tokens),
        max_draft_length=max_draft_length,
        max_window=max_window,
        uses_guard=uses_guard,
    )


def ready(number: int = 1, *, position: int = 0, **changes: Any) -> Stream:
    """A stream whose board can draft."""
    stream = make_stream(number, **({"max_output_tokens": 100} | changes))
    stream.take_up_again((20,) * position)
    stream.board_is_ready = True
    return stream


def grants(
    *streams: Stream, length: int = 4, now: float = 0.0, **limits: Any
) -> list[tuple[int, int]]:
    chosen = settings(**limits)
    plan = plan_drafts(streams, FixedPolicy(length), make_curve(), chosen, now)
    made = [grant_draft(stream, plan, chosen) for stream in streams]
    return [(grant.draft_length, grant.window) for grant in made]


def drafted(stream: Stream, *token_ids: int) -> Stream:
    """The stream with these live tokens."""
    live = tuple(DraftToken(token_id) for token_id in token_ids)
    end = stream.path.position + len(live)
    stream.path = DraftPath(
        base=stream.path.base, position=stream.path.position, end=end, live=live
    )
    return stream


def test_a_board_drafts_beyond_what_the_next_round_decides() -> None:
    assert [(4, 5)] == grants(ready())
    assert [(4, 8)] == grants(drafted(ready(), 1, 2, 3))


@pytest.mark.parametrize(
    ("round_trip_seconds", "draft_token_seconds", "expected"),
    [
        (0.0, 0.01, (4, 5)),
        (0.05, 0.01, (4, 10)),  # half a round: two rounds of 5 tokens
        (0.1, 0.01, (4, 15)),
        (0.3, 0.01, (4, 25)),
        (0.3, 0.1, (4, 10)),  # the board drafts a token a round, and the target adds one
    ],
)
def test_a_window_covers_the_round_trip(
    round_trip_seconds: float, draft_token_seconds: float, expected: tuple[int, int]
) -> None:
    """Rounds take 0.1 s."""
    stream = ready()
    stream.estimates.speed.round_trip_seconds = round_trip_seconds
    stream.estimates.speed.draft_token_seconds = draft_token_seconds
    assert [expected] == grants(stream)


def test_a_far_board_that_is_often_wrong_stays_near() -> None:
    stream = trusted(0.01)
    stream.estimates.speed.round_trip_seconds = 0.3
    for _ in range(50):
        stream.estimates.acceptance.observe_counts(4, 1)
    rate = stream.estimates.acceptance.rate
    reach = worthwhile_depth(rate, SMALLEST_SURVIVAL_ON_THE_WAY)
    assert 14 == reach  # 0.8 ** 14 is 0.044; the rate is a little higher
    assert [(4, reach)] == grants(drafted(stream, 1, 2), uses_guard=True)


def test_in_rejection_a_guess_of_the_bonus_token_stands_between_two_chunks() -> None:
    assert [(4, 9)] == grants(ready(mode="rejection"))


def test_no_board_no_draft() -> None:
    stream = ready()
    stream.board_is_ready = False
    assert [(0, 0), (4, 5)] == grants(stream, ready(2))


def test_nobody_at_all() -> None:
    plan = plan_drafts([], FixedPolicy(4), make_curve(), settings(), 0.0)
    assert (64, 0, {}) == (plan.budget_tokens, plan.num_draft_tokens, plan.streams)


@pytest.mark.parametrize(
    ("limits", "position", "changes", "expected"),
    [
        ({"max_draft_length": 3}, 0, {}, (3, 4)),
        ({"max_window": 4}, 0, {}, (4, 4)),
        ({"max_window": 3}, 0, {}, (3, 3)),
        ({"max_window": 0}, 0, {}, (0, 0)),
        ({"budget_tokens": 3}, 0, {}, (3, 4)),
        ({"budget_tokens": 0}, 0, {}, (0, 0)),
        ({"max_round_tokens": 3}, 0, {}, (2, 3)),
        ({}, 94, {}, (4, 5)),  # the last of 100 tokens is always the target's
        ({}, 97, {}, (2, 2)),
        ({}, 98, {}, (0, 0)),  # the next round decides the only one left
        ({}, 99, {}, (0, 0)),
        ({}, 0, {"draft_context_tokens": 9}, (4, 4)),  # 5 prompt tokens
        ({}, 0, {"draft_context_tokens": 6}, (0, 0)),
        ({}, 0, {"draft_context_tokens": 5}, (0, 0)),
        ({}, 0, {"draft_context_tokens": 0}, (0, 0)),
    ],
)
def test_every_limit_counts(
    limits: dict[str, int],
    position: int,
    changes: dict[str, int],
    expected: tuple[int, int],
) -> None:
    assert [expected] == grants(ready(position=position, **changes), **limits)


# --- requests that fix the length -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "limits", "expected"),
    [
        (6, {}, (6, 7)),
        (100, {}, (8, 9)),
        (6, {"budget_tokens": 2}, (2, 3)),
        (6, {"budget_tokens": 0}, (0, 0)),  # a chunk that no round may test
        (6, {"max_round_tokens": 4}, (3, 4)),
        (6, {"max_round_tokens": 1}, (0, 0)),
        (0, {}, (0, 0)),
    ],
)
def test_a_request_may_fix_its_length_within_what_a_round_can_test(
    asked: int, limits: dict[str, int], expected: tuple[int, int]
) -> None:
    assert [expected] == grants(ready(draft_length=asked), **limits)


def test_a_fixed_length_needs_a_ready_board() -> None:
    stream = ready(draft_length=6)
    stream.board_is_ready = False
    assert [(0, 0)] == grants(stream)


def test_a_fixed_length_takes_nothing_from_the_others_and_is_not_vetoed() -> None:
    fixed, other = ready(1, draft_length=6), ready(2)
    for stream in (fixed, other):
        stream.estimates.speed.observe_drafting(1, 9.0)
    assert [(6, 7), (0, 0)] == grants(fixed, other, uses_guard=True)
    policy = WatchedPolicy()
    plan_drafts([fixed, other], policy, make_curve(), settings(), 0.0)
    assert policy.streams is not None
    assert [0, 8] == policy.streams.max_lengths.tolist()


# --- estimates ------------------------------------------------------------------------------------


def test_the_policy_sees_acceptance_of_the_stream_and_goodput_of_the_device() -> None:
    stream = ready()
    stream.estimates.acceptance.observe_counts(9, 0)
    stream.device_estimates.goodput.observe_round(5, 0.1)
    policy = WatchedPolicy()
    plan_drafts([stream], policy, make_curve(), settings(), 0.0)
    seen = policy.streams
    assert seen is not None
    assert [stream.estimates.acceptance.rate] == seen.acceptance_rates.tolist()
    assert [stream.device_estimates.goodput.tokens_per_round] == seen.goodputs.tolist()


def test_the_budget_may_follow_from_the_slowdown_limit() -> None:
    chosen, stream = settings(budget_tokens=None), ready()
    plan = plan_drafts([stream], FixedPolicy(4), make_curve(), chosen, 0.0)
    assert 0 < plan.budget_tokens
    assert Grant(4, 5) == grant_draft(stream, plan, chosen)


# --- boards that become ready when a plan is made -------------------------------------------------


def planned(streams: Sequence[Stream], budget_tokens: int | None, beside: DraftPlan) -> DraftPlan:
    chosen = settings(budget_tokens=budget_tokens)
    policy = FixedPolicy(4)
    return plan_drafts(streams, policy, make_curve(), chosen, 0.0, beside=beside)


def test_a_newcomer_gets_what_the_others_leave_of_the_budget() -> None:
    first = planned([ready(1), ready(2)], 10, NO_PLAN)
    both = planned([ready(3)], 10, first)
    assert {1: 4, 2: 4, 3: 2} == {number: plan.length for number, plan in both.streams.items()}
    assert (3, 10) == (both.num_streams, both.num_draft_tokens)


def test_a_newcomer_counts_in_the_seconds_of_the_round() -> None:
    one_by_one = planned([ready(2)], 64, planned([ready(1)], 64, NO_PLAN))
    together = planned([ready(1), ready(2)], 64, NO_PLAN)
    assert together == one_by_one


def test_a_stream_without_a_plan_is_granted_nothing() -> None:
    assert Grant(0, 0) == grant_draft(ready(1), planned([ready(2)], 64, NO_PLAN), settings())


def test_a_board_that_is_gone_since_the_plan_is_granted_nothing() -> None:
    stream = ready()
    plan = planned([stream], 64, NO_PLAN)
    stream.board_is_ready = False
    assert Grant(0, 0) == grant_draft(stream, plan, settings())


# --- the guard ------------------------------------------------------------------------------------


def trusted(draft_token_seconds: float, **changes: Any) -> Stream:
    """A stream whose drafts are nearly always right."""
    stream = ready(**changes)
    stream.estimates.acceptance.observe_counts(500, 0)
    stream.estimates.speed.observe_drafting(1, draft_token_seconds)
    return stream


def test_a_slow_board_is_asked_for_a_short_draft_now_and_then() -> None:
    stream = trusted(0.5)  # a round takes 0.1 s
    asked = [
        grants(stream, uses_guard=True, length=8, now=now)
        for now in (1.0, 1.1, 1.0 + FIRST_PROBE_PAUSE_SECONDS, 1.1 + FIRST_PROBE_PAUSE_SECONDS)
    ]
    probe = (PROBE_LENGTH, PROBE_LENGTH + 1)
    assert [[(0, 0)], [(0, 0)], [probe], [(0, 0)]] == asked


def test_a_probe_is_no_longer_than_any_draft() -> None:
    stream = trusted(0.5)
    grants(stream, uses_guard=True, max_draft_length=2, now=0.0)
    assert [(2, 3)] == grants(stream, uses_guard=True, max_draft_length=2, now=60.0)


def test_drafts_that_pay_again_start_the_pauses_over() -> None:
    stream = trusted(0.5)
    grants(stream, uses_guard=True, now=0.0)
    stream.estimates.speed.draft_token_seconds = 0.01
    assert [(4, 5)] == grants(stream, uses_guard=True, now=0.1)
    stream.estimates.speed.draft_token_seconds = 0.5
    assert [(0, 0)] == grants(stream, uses_guard=True, now=60.0)


def test_a_stream_that_waits_needs_a_faster_or_a_better_board() -> None:
    """At 95 ms a token, drafts pay in rounds of 0.1 s as long as nobody waits for them."""
    coupled, rejection = trusted(0.095), trusted(0.095, mode="rejection")
    assert [(4, 5)] == grants(coupled, uses_guard=True)
    # Nearly always right, it goes on past one token and a guess.
    assert [(1, 3)] == grants(rejection, uses_guard=True)
    rejection.estimates.acceptance.observe_counts(300, 300)
    assert [(0, 0)] == grants(rejection, uses_guard=True)


def test_a_board_that_is_often_wrong_does_not_run_far_ahead() -> None:
    stream = ready()
    for _ in range(50):
        stream.estimates.acceptance.observe_counts(1, 1)
    assert [(2, 3)] == grants(stream, uses_guard=True)  # 0.5 ** 3 is too little
    assert [(1, 1)] == grants(drafted(stream, 1), uses_guard=True)  # not before the verdict


def test_a_board_that_is_mostly_right_drafts_past_what_is_in_flight() -> None:
    assert [(4, 7)] == grants(drafted(trusted(0.01), 1, 2), uses_guard=True)


def test_without_the_guard_every_board_drafts() -> None:
    assert [(4, 5)] == grants(trusted(9.0))


# --- what an operator says of single devices ------------------------------------------------------


def test_a_device_that_weighs_more_drafts_more() -> None:
    streams = [ready(1, device="kitchen"), ready(2, device="attic")]
    chosen = msgspec.structs.replace(settings(budget_tokens=7), device_weights={"kitchen": 8.0})
    plan = plan_drafts(streams, GoodspeedPolicy(), make_curve(), chosen, 0.0)
    assert (6, 1) == (plan.streams[1].length, plan.streams[2].length)


def test_a_device_never_drafts_more_than_its_cap() -> None:
    capped, wishful = ready(1, device="attic"), ready(2, device="attic", draft_length=6)
    free = ready(3, device="kitchen")
    chosen = msgspec.structs.replace(settings(), device_caps={"attic": 2})
    plan = plan_drafts([capped, wishful, free], FixedPolicy(8), make_curve(), chosen, 0.0)
    assert [2, 2, 8] == [plan.streams[number].length for number in (1, 2, 3)]


def test_streams_of_one_device_share_its_weight() -> None:
    policy = WatchedPolicy()
    streams = [ready(1, device="a"), ready(2, device="a"), ready(3, device="b")]
    plan_drafts(streams, policy, make_curve(), settings(), 0.0)
    assert policy.streams is not None
    assert [0.5, 0.5, 1.0] == policy.streams.shares.tolist()


# --- a policy that weighs itself whether drafts pay -----------------------------------------------


def hopeless(number: int, **changes: Any) -> Stream:
    stream = ready(number, **changes)
    for _ in range(50):
        stream.estimates.acceptance.observe_counts(0, 1)
    return stream


def refused_grants(stream: Stream, now: float) -> tuple[int, int]:
    others = [ready(number, device=f"{number}") for number in range(2, 6)]
    limits = settings(budget_tokens=None)
    plan = plan_drafts([stream, *others], RatePolicy(), make_curve(), limits, now)
    grant = grant_draft(stream, plan, settings())
    return grant.draft_length, grant.window


def test_a_refused_board_drafts_a_little_now_and_then_that_no_round_pays_for() -> None:
    stream = hopeless(1)
    assert (0, 0) == refused_grants(stream, 0.0)
    assert (0, PROBE_LENGTH) == refused_grants(stream, FIRST_PROBE_PAUSE_SECONDS)
    assert (0, 0) == refused_grants(stream, FIRST_PROBE_PAUSE_SECONDS)


def test_in_rejection_the_probe_of_a_refused_board_is_a_draft_to_be_tested() -> None:
    stream = hopeless(1, mode="rejection")
    assert (0, 0) == refused_grants(stream, 0.0)
    length, window = refused_grants(stream, FIRST_PROBE_PAUSE_SECONDS)
    assert PROBE_LENGTH == length <= window


def test_a_window_goes_as_deep_as_the_policy_says() -> None:
    stream = ready()
    for _ in range(50):
        stream.estimates.acceptance.observe_counts(4, 1)
    plan = plan_drafts([stream], RatePolicy(), make_curve(), settings(budget_tokens=None), 0.0)
    assert plan.streams[1].depth == grant_draft(stream, plan, settings()).window > 8


def test_a_board_that_knows_its_sure_tokens_is_waited_for_until_it_stops_by_itself() -> None:
    """Else it would send as many tokens as are right on average, sure of them or not."""
    telling, silent = make_stream(1, max_output_tokens=90), make_stream(2, max_output_tokens=90)
    telling.estimates.chances.best_chance = 0.95
    grants, leasts = [], []
    for stream in (telling, silent):
        stream.estimates.speed.draft_token_seconds = 0.003
        stream.estimates.speed.round_trip_seconds = 0.003
        stream.estimates.acceptance.observe_counts(700, 300)
        stream.board_is_ready = True
        known = settings(uses_guard=True, budget_tokens=None, max_draft_length=16)
        plan = plan_drafts([stream], RatePolicy(), make_curve(), known, now=0.0)
        grants.append(grant_draft(stream, plan, known))
        leasts.append(stream.estimates.chances.least_survival)
    of_telling, of_silent = grants
    assert 0.0 < of_silent.awaited_seconds < of_telling.awaited_seconds
    assert of_silent.draft_length < of_telling.draft_length == min(16, of_telling.window)
    assert leasts[0] > 0.02  # where it stops
