"""A board's streams prove which of its drafts is faster; what is worse is dropped."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.speculation.draft_choice import (
    FIRST_REST_STREAMS,
    LEAST_PAIRS,
    OWN,
    DraftChoice,
    Standing,
)
from shared.speculation.paired_test import MOST_PAIRS

A, B = b"a", b"b"


def play(
    choice: DraftChoice,
    rates: Mapping[bytes, float],
    num_streams: int,
    random: Random,
    deviation: float = 0.3,
) -> Counter[bytes]:
    """Streams one after another, each at its draft's rate times what its text makes of it."""
    used: Counter[bytes] = Counter()
    for number in range(num_streams):
        turns = choice.turns
        draft = turns[number % len(turns)]
        used[draft] += 1
        choice.observe(draft, rates[draft] * math.exp(random.gauss(0.0, deviation)))
    return used


def test_its_own_leads_where_nothing_else_is_held() -> None:
    choice = DraftChoice()
    assert (OWN,) == choice.turns
    choice.observe(OWN, 10.0)
    assert Standing(OWN, None) == choice.standing


def test_a_candidate_is_tried_beside_the_leader_in_turn() -> None:
    choice = DraftChoice()
    choice.hold((A,))
    assert (OWN, A, A, OWN) == choice.turns
    for draft in choice.turns:
        choice.observe(draft, 20.0 if draft == A else 10.0)
    standing = choice.standing
    assert (OWN, A, 2) == (standing.leader, standing.candidate, standing.num_pairs)
    assert pytest.approx(2.0) == standing.speed_ratio


def test_a_faster_one_leads_and_a_slower_one_is_dropped() -> None:
    for ratio, leader in ((1.5, A), (0.6, OWN)):
        choice = DraftChoice()
        choice.hold((A,))
        play(choice, {OWN: 10.0, A: 10.0 * ratio}, 100, Random(1))
        assert (leader,) == choice.turns


def test_few_streams_prove_nothing_however_alike_they_are() -> None:
    choice = DraftChoice()
    choice.hold((A,))
    for _ in range(LEAST_PAIRS - 1):
        choice.observe(OWN, 10.0)
        choice.observe(A, 40.0)
    assert A == choice.standing.candidate
    choice.observe(OWN, 10.0)
    choice.observe(A, 40.0)
    assert (A,) == choice.turns


def test_what_is_no_better_after_so_many_pairs_is_dropped() -> None:
    choice = DraftChoice()
    choice.hold((A,))
    for pair in range(MOST_PAIRS):
        assert A == choice.standing.candidate
        choice.observe(OWN, 10.0)
        choice.observe(A, 10.0 + (-1) ** pair)
    assert Standing(OWN, None, dropped=(A,)) == choice.standing


def test_several_are_tried_one_after_another_and_the_best_leads() -> None:
    choice = DraftChoice()
    choice.hold((A, B))
    play(choice, {OWN: 10.0, A: 15.0, B: 30.0}, 200, Random(2))
    assert (B,) == choice.turns
    assert (A,) == choice.standing.dropped


def test_a_dropped_one_is_tried_again_later_and_more_rarely() -> None:
    choice = DraftChoice()
    choice.hold((A,))
    rates = {OWN: 10.0, A: 5.0}
    play(choice, rates, 60, Random(3))
    assert (OWN,) == choice.turns
    play(choice, rates, FIRST_REST_STREAMS, Random(4))
    first = choice._dropped[A].rest_streams
    assert first == 2 * FIRST_REST_STREAMS or choice.standing.candidate == A
    rates = {OWN: 5.0, A: 10.0}
    play(choice, rates, 3 * FIRST_REST_STREAMS, Random(5))
    assert (A,) == choice.turns, "its texts have changed"


def test_what_is_held_no_more_neither_leads_nor_is_tried() -> None:
    choice = DraftChoice()
    choice.hold((A, B))
    play(choice, {OWN: 10.0, A: 30.0, B: 1.0}, 40, Random(6))
    choice.hold((B,))
    assert A not in choice.turns
    choice.hold(())
    assert (OWN,) == choice.turns


def test_equal_drafts_are_seldom_told_apart_and_clear_ones_nearly_always() -> None:
    leaders: dict[float, Counter[bytes]] = {}
    for ratio in (1.0, 1.4):
        leaders[ratio] = Counter()
        for seed in range(200):
            choice = DraftChoice()
            choice.hold((A,))
            play(choice, {OWN: 10.0, A: 10.0 * ratio}, 2 * MOST_PAIRS, Random(seed))
            leaders[ratio][choice.standing.leader] += 1
    assert leaders[1.0][A] <= 10, leaders
    assert leaders[1.4][A] >= 180, leaders


drafts = st.sampled_from([OWN, A, B])
steps = st.lists(
    st.tuples(drafts, st.floats(0.0, 1e6)) | st.lists(st.sampled_from([A, B]), max_size=3),
    max_size=80,
)


@given(steps)
def test_only_what_is_held_ever_has_a_turn(steps: list[tuple[bytes, float] | list[bytes]]) -> None:
    choice = DraftChoice()
    held: tuple[bytes, ...] = ()
    for step in steps:
        if isinstance(step, list):
            held = tuple(step)
            choice.hold(held)
        else:
            choice.observe(*step)
        assert set(choice.turns) <= {OWN, *held}
        assert len(choice.turns) in (1, 4)
        standing = choice.standing
        assert standing.leader == choice.turns[0]
        assert standing.candidate is None or standing.candidate in choice.turns


@given(st.integers(0, 1 << 32), st.floats(0.1, 10.0))
def test_a_bad_candidate_costs_a_bounded_number_of_streams(seed: int, scale: float) -> None:
    choice = DraftChoice()
    choice.hold((A,))
    rates = {OWN: 10.0 * scale, A: scale}
    used = play(choice, rates, 100, Random(seed), deviation=0.2)
    assert used[A] <= 2 * LEAST_PAIRS + 2
