"""Promises in a planner: who waits for one and why, who goes first, how long a round may be."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.ends.planning import (
    add,
    draft,
    finish,
    make_curve,
    make_planner,
    make_stream,
    play,
    served,
    start,
)
from verifier.cost_curve.curve import CostCurve
from verifier.cost_curve.look_back import chunks_of
from verifier.promises.promises import Promises
from verifier.promises.slo_settings import SloSettings
from verifier.rounds.operators_terms import set_device_terms
from verifier.rounds.planner import RoundPlanner
from verifier.scheduling.draft_plan import NO_DRAFTS, Grant
from verifier.streams.stream import Stream
from verifier.target.round import ItemOutcome, Round, RoundOutcome

# Rounds take 0.1 s and 1 ms for each token: so many tokens are in time for this promise.
SLO_SECONDS, FITTING_TOKENS = 0.11, 10


class Told(NamedTuple):
    """A round, when it was over, and how many streams ended with it."""

    round_: Round
    now: float
    num_ended: int


def planner_promising(token_seconds: float = SLO_SECONDS, **by_device: float) -> RoundPlanner:
    planner = make_planner(num_blocks=2000, reserved_output_tokens=4)
    planner.promises.settings = SloSettings(token_seconds=token_seconds, by_device=by_device)
    return planner


def streams(count: int, first: int = 1, **changes: object) -> list[Stream]:
    """Each of a device of its own, called by its number."""
    made: dict[str, object] = {"prompt_ids": (11,), **changes}
    return [make_stream(i, device=f"b{i}", **made) for i in range(first, first + count)]  # type: ignore[arg-type]


def round_as_told(planner: RoundPlanner, now: float, drafts: Random | None = None) -> Told:
    """A round that takes what the curve says; `drafts` draws how many are accepted."""
    round_ = planner.start_round(now)
    assert round_ is not None
    known = round_.num_tokens, round_.context_tokens, chunks_of(round_)
    seconds = make_curve().round_seconds(*known)
    outcomes: list[ItemOutcome | None] = []
    for item in round_.items:
        if item.draft_check is None:
            outcomes.append(None)
            continue
        num_drafts = len(item.draft_check.draft_token_ids)
        num_accepted = drafts.randint(0, num_drafts) if drafts else 0
        outcomes.append(ItemOutcome(num_accepted, 20 if num_accepted == num_drafts else 21, ()))
    outcome = RoundOutcome(tuple(outcomes), seconds, 0.0)
    results = planner.finish_round(round_, outcome, seconds, now + seconds)
    return Told(round_, now + seconds, sum(one.stream.finish is not None for one in results))


def test_without_an_slo_nothing_is_held() -> None:
    planner = planner_promising(0.0)
    add(planner, *streams(30))
    play(planner)
    assert (30, {}, {}) == (len(planner.streams), planner.promises.held, planner.promises.waiting)


def test_a_newcomer_who_would_break_a_promise_waits_and_is_told_why() -> None:
    planner = planner_promising()
    add(planner, *streams(FITTING_TOKENS + 1))
    play(planner)
    fitting = FITTING_TOKENS - 1  # one token of a round is for those without a promise
    assert fitting == len(planner.streams)
    reasons = planner.promises.reasons()
    assert {"b10", "b11"} == reasons.keys()
    assert (
        "a token every 110 ms for it, too, would break what 9 streams were promised"
        in (reasons["b10"])
    )
    assert "behind another" in reasons["b11"]


def test_contexts_count_as_long_as_they_may_become() -> None:
    samples = [(1, 16, 0.1), (100, 16, 0.2), (1, 1000, 0.3), (100, 1000, 0.4)]
    promises = Promises(SloSettings(token_seconds=0.2), CostCurve.from_samples(samples), 256)
    first, second, third = streams(3, max_output_tokens=300)
    assert {2, 3} == set(promises.let_in([first, second, third], [], 0.0))
    promises.forget(first)
    assert {3} == set(promises.let_in([second, third], [], 1.0))


def test_it_starts_when_a_promise_ends() -> None:
    planner = planner_promising()
    first, *others = streams(FITTING_TOKENS)
    add(planner, first, *others)
    play(planner)
    assert {10} == planner.promises.waiting.keys()
    planner.cancel(first)
    play(planner, 0.2)
    assert (set(), True) == (set(planner.promises.waiting), 10 in planner.streams)


def test_streams_without_a_promise_are_let_in_past_those_that_wait() -> None:
    planner = planner_promising(b11=0.0)
    add(planner, *streams(FITTING_TOKENS + 1))
    play(planner)
    assert 11 in planner.streams
    assert {10} == planner.promises.waiting.keys()


def test_what_no_round_can_keep_is_not_promised_and_its_stream_served() -> None:
    planner = planner_promising(0.05)
    add(planner, *streams(2))
    play(planner)
    assert {1, 2} == planner.streams.keys()
    assert "a token every 50 ms is promised to none" in planner.promises.reasons()["b1"]
    play(planner, 0.1)
    play(planner, 0.2)
    assert planner.promises.counts["b1"].num_late == 2


def test_those_with_a_longer_promise_take_turns() -> None:
    slow = {f"b{i}": 1.0 for i in range(5, 30)}
    planner = planner_promising(SLO_SECONDS, **slow)
    add(planner, *streams(29, max_output_tokens=90))
    # Four in every round, 25 / 8 for those of which one round in eight must be, one for others.
    now, rounds = 0.0, []
    for _ in range(25):
        round_, now, _ = round_as_told(planner, now)
        rounds.append(served(round_))
    assert 29 == len(planner.streams)
    assert FITTING_TOKENS >= max(sum(held.values()) for held in rounds[1:])
    assert all({1, 2, 3, 4} <= held.keys() for held in rounds)
    assert not any(one.num_late for one in planner.promises.counts.values())


def test_a_promised_stream_waits_for_its_board_only_with_time_to_spare() -> None:
    planner = planner_promising(1.0)
    (stream,) = streams(1)
    add(planner, stream)
    play(planner)
    grant = planner.promises.bounded
    assert 0.0 == grant(stream, Grant(4, 8, 0.5), 0.1).awaited_seconds
    play(planner, 0.1)  # 0.9 s before its time
    assert grant(stream, Grant(4, 8, 0.5), 0.2).awaited_seconds == pytest.approx(0.0, abs=1e-9)
    play(planner, 0.2)
    assert grant(stream, Grant(4, 8, 0.5), 0.3).awaited_seconds == 0.5
    other = make_stream(2)
    assert Grant(4, 8, 0.5) == grant(other, Grant(4, 8, 0.5), 0.3)
    chunked = make_stream(3, device="b3", mode="rejection")
    add(planner, chunked)
    play(planner, 0.3)
    assert NO_DRAFTS == grant(chunked, Grant(4, 8), 0.4)


def test_rounds_that_take_longer_than_expected_leave_room_for_fewer() -> None:
    promises = Promises(SloSettings(token_seconds=1.0), make_curve(), 256)
    planner = planner_promising(1.0)
    planner.promises = promises
    random = Random(3)
    for _ in range(3000):
        promises._follow_stretch(1.0, random.uniform(0.8, 1.4))
    # The 95th percentile of an even spread from 0.8 to 1.4.
    assert promises.stretch == pytest.approx(1.37, abs=0.03)


def test_a_stream_whose_board_is_gone_has_no_deadline() -> None:
    planner = planner_promising()
    (stream,) = streams(1)
    add(planner, stream)
    play(planner)
    planner.park(stream)
    planner.unpark(stream)
    play(planner, 50.0)
    assert planner.promises.counts["b1"].num_late == 0


@pytest.mark.parametrize("leave", ["cancel", "park"])
def test_a_stream_that_waited_for_its_promise_and_is_gone_waits_no_more(leave: str) -> None:
    planner = planner_promising()
    *_, last = opened = streams(FITTING_TOKENS)
    add(planner, *opened)
    play(planner)
    assert [10] == list(planner.promises.waiting)
    getattr(planner, leave)(last)
    assert ({}, {}) == (planner.promises.waiting, planner.promises.reasons())


def test_what_passes_between_rounds_is_a_part_of_them() -> None:
    planner = planner_promising(1.0)
    add(planner, *streams(1, max_output_tokens=90))
    now = 0.0
    for _ in range(80):  # of 0.1 s and 20 ms in between
        finish(planner, start(planner, now + 0.02), now=now + 0.12)
        now += 0.12
    assert planner.promises.stretch > 1.15


def test_operators_terms_hold_for_new_streams_and_promises_that_were_given_stay() -> None:
    planner = planner_promising(0.0)
    set_device_terms(planner, frozenset(), {}, {}, {"b1": 0.5})
    add(planner, *streams(2))
    play(planner)
    assert [1] == list(planner.promises.held)
    set_device_terms(planner, frozenset(), {}, {}, {})
    play(planner, 0.1)
    assert [1] == list(planner.promises.held)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.105, 0.11, 0.12, 0.25, 0.4, 1.0, 3.0]),  # its SLO
            st.floats(0.0, 3.0),  # when it comes
            st.integers(1, 40),  # prompt
            st.integers(1, 30),  # output
        ),
        min_size=1,
        max_size=40,
    ),
    st.integers(0, 1 << 16),
)
def test_no_promise_that_was_given_is_broken_where_costs_are_as_told(
    comers: list[tuple[float, float, int, int]], seed: int
) -> None:
    random = Random(seed)
    by_device = {f"b{i}": slo for i, (slo, *_) in enumerate(comers, start=1)}
    planner = planner_promising(0.0, **by_device)
    coming = [
        (at, make_stream(i, device=f"b{i}", prompt_ids=(11,) * prompt, max_output_tokens=output))
        for i, (_, at, prompt, output) in enumerate(comers, start=1)
    ]
    coming.sort(key=lambda pair: pair[0])
    now, num_ended = 0.0, 0
    for _ in range(3000):
        while coming and coming[0][0] <= now:
            stream = coming.pop(0)[1]
            add(planner, stream)
            stream.board_is_ready = random.random() < 0.7
        for stream in planner.streams.values():
            if stream.window and not stream.path.live and random.random() < 0.5:
                draft(stream, *[20] * min(stream.window, random.randint(1, 4)), now=now)
        has_work = any(not planner.patience.waits(s, now) for s in planner.streams.values())
        if has_work or planner.queue:
            _, now, ended = round_as_told(planner, now, random)
            num_ended += ended
            continue
        later = [at for at, _ in coming[:1]]
        deadline = planner.next_deadline()
        later += [max(deadline, now + 1e-6)] if deadline is not None else []
        if not later:
            break
        now = min(later)
    assert len(comers) == num_ended  # none waits forever
    late = {device for device, counts in planner.promises.counts.items() if counts.num_late}
    assert set() == late
