"""What confidences are worth is learned, whatever they claim."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from random import Random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.speculation.calibration import (
    CELL_OF,
    LARGEST_HAZARD,
    LEAST_HAZARD,
    NUM_CELLS,
    Calibration,
    StreamFactor,
    Way,
    common_prior,
    fitted_hazards,
    usual_hazards,
)
from shared.speculation.confidence import LEAST_MODEL_CONFIDENCE, MAX_CONFIDENCE

MODEL_BYTES = range(LEAST_MODEL_CONFIDENCE, MAX_CONFIDENCE + 1)
counts = st.lists(
    st.tuples(st.integers(0, 500), st.floats(0.0, 1.0)), min_size=NUM_CELLS, max_size=NUM_CELLS
)


def taught(
    chance_of: Callable[[int], float], confidences: list[int], seed: int = 1, num_tokens: int = 4000
) -> Calibration:
    """A board that drafts one token at a time, of these confidences in turn."""
    maps, random = Calibration(), Random(seed)
    for i in range(num_tokens):
        confidence = confidences[i % len(confidences)]
        maps.observe(Way.GREEDY, bytes([confidence]), int(random.random() < chance_of(confidence)))
    return maps


def chance(maps: Calibration, confidence: int) -> float:
    return math.exp(-maps.hazards[Way.GREEDY][CELL_OF[confidence]])


@given(counts)
def test_a_map_never_falls_with_confidence_and_is_never_certain(
    figures: list[tuple[int, float]],
) -> None:
    reached = [float(count) for count, _ in figures]
    accepted = [count * part for count, part in figures]
    hazards = fitted_hazards(reached, accepted, usual_hazards()[Way.GREEDY])
    assert min(hazards) >= LEAST_HAZARD
    assert max(hazards) <= LARGEST_HAZARD
    of_model = [hazards[CELL_OF[confidence]] for confidence in MODEL_BYTES]
    assert all(surer <= less for less, surer in pairwise(of_model))


def test_every_byte_of_a_model_has_a_cell_and_ngrams_have_their_own() -> None:
    cells = [CELL_OF[confidence] for confidence in MODEL_BYTES]
    assert sorted(cells) == cells
    assert NUM_CELLS - 1 == max(cells)
    assert set(range(16)) == set(CELL_OF[:16])
    assert min(cells) > max(CELL_OF[:16])


def test_what_never_came_is_worth_something_however_often_other_tokens_were_refused() -> None:
    reached = [0.0] * NUM_CELLS
    reached[CELL_OF[MAX_CONFIDENCE]] = 4096.0
    hazards = fitted_hazards(reached, [0.0] * NUM_CELLS, usual_hazards()[Way.GREEDY])
    assert {LARGEST_HAZARD} == {hazards[CELL_OF[confidence]] for confidence in MODEL_BYTES}


def test_what_is_seen_often_is_believed() -> None:
    worth = {40: 0.3, 90: 0.6, 140: 0.9}
    maps = taught(worth.__getitem__, list(worth))
    for confidence, expected in worth.items():
        assert chance(maps, confidence) == pytest.approx(expected, abs=0.05)


def test_before_anything_is_seen_the_surer_token_is_the_better_one() -> None:
    maps = Calibration()
    chances = [chance(maps, confidence) for confidence in MODEL_BYTES]
    assert sorted(chances) == chances
    assert chances[0] < 0.2 < 0.9 < chances[-1]


def test_a_board_that_always_claims_to_be_sure_is_worth_its_mean() -> None:
    maps = taught(lambda _: 0.4, [MAX_CONFIDENCE], num_tokens=400)
    assert chance(maps, MAX_CONFIDENCE) == pytest.approx(0.4, abs=0.08)


def test_a_board_of_less_acceptance_is_believed_less_where_it_has_shown_nothing_too() -> None:
    poor = taught(lambda _: 0.2, [100], num_tokens=500)
    assert chance(poor, 130) < chance(Calibration(), 130) - 0.04


def test_each_way_of_drafting_has_its_own_map() -> None:
    maps = taught(lambda _: 0.1, [120], num_tokens=600)
    assert maps.hazards[Way.COUPLED] == Calibration().hazards[Way.COUPLED]
    assert maps.hazards[Way.GREEDY] != Calibration().hazards[Way.GREEDY]


def test_the_surer_tokens_are_those_of_the_best_fifth() -> None:
    worth = {40: 0.3, 90: 0.6, 160: 0.95}
    maps = taught(worth.__getitem__, [40, 90, 160])
    assert maps.best_chances[Way.GREEDY] == pytest.approx(0.95, abs=0.03)


def test_positions_behind_a_refused_token_teach_nothing() -> None:
    maps = Calibration()
    for _ in range(100):
        maps.observe(Way.GREEDY, bytes([200, 50]), 1)
    reached, accepted = maps.counts(Way.GREEDY)
    assert reached[CELL_OF[200]] == pytest.approx(accepted[CELL_OF[200]])
    assert 0.0 == accepted[CELL_OF[50]] < reached[CELL_OF[50]]


# --- what other boards have shown -------------------------------------------------------------


def test_boards_with_the_same_draft_begin_with_what_others_have_shown() -> None:
    boards = [taught(lambda _: 0.2, [160], seed) for seed in range(3)]
    prior = common_prior(boards)
    assert math.exp(-prior[Way.GREEDY][CELL_OF[160]]) == pytest.approx(0.2, abs=0.05)


def test_one_board_that_lies_moves_what_others_begin_with_hardly() -> None:
    honest = [taught(lambda _: 0.9, [160], seed) for seed in range(3)]
    liar = taught(lambda _: 0.01, [160])
    cell = CELL_OF[160]
    before = math.exp(-common_prior(honest)[Way.GREEDY][cell])
    after = math.exp(-common_prior([*honest, liar])[Way.GREEDY][cell])
    assert after == pytest.approx(before, abs=0.03)
    alone = math.exp(-common_prior([liar])[Way.GREEDY][cell])
    assert alone > 0.5


# --- one stream -------------------------------------------------------------------------------


def test_a_stream_that_goes_as_its_board_does_has_a_factor_near_one() -> None:
    maps, factor, random = Calibration(), StreamFactor(), Random(3)
    survives, refusal = chance(maps, 60), maps.expected_rejections(Way.GREEDY, bytes([60]))
    assert survives < 0.7  # where hazards come to more than rejections
    seen = []
    for _ in range(4000):
        num_accepted = 0
        while num_accepted < 5 and random.random() < survives:
            num_accepted += 1
        num_rejected = int(num_accepted < 5)
        factor.observe((num_accepted + num_rejected) * refusal, num_rejected)
        seen.append(factor.value)
    assert fmean(seen[200:]) == pytest.approx(1.0, abs=0.03)


def test_a_text_that_goes_worse_is_followed_within_some_rounds() -> None:
    factor = StreamFactor()
    for _ in range(20):
        factor.observe(0.05, 1)
    assert factor.value > 3.0
    for _ in range(150):
        factor.observe(0.5, 0)
    assert factor.value < 0.5


@given(st.lists(st.tuples(st.floats(0.0, 50.0), st.integers(0, 1))))
def test_a_factor_stays_within_its_bounds(rounds: list[tuple[float, int]]) -> None:
    factor = StreamFactor()
    for expected, num_rejected in rounds:
        factor.observe(expected, num_rejected)
        assert 0.3 <= factor.value <= 8.0
