"""A stream's tokens are worth what its board's confidence has come to."""

from __future__ import annotations

import math
from random import Random

import pytest

from shared.protocol.draft_path import DraftToken
from shared.speculation.calibration import Calibration, Way
from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.support.ends.planning import make_stream
from verifier.streams.draft_chances import DraftChances, way_of
from verifier.streams.estimates import DeviceEstimates


def tokens(*confidences: int) -> list[DraftToken]:
    return [DraftToken(1, confidence=confidence) for confidence in confidences]


def test_tokens_of_which_a_board_says_nothing_are_unknown_and_teach_nothing() -> None:
    maps, chances = Calibration(), DraftChances()
    for _ in range(100):
        chances.learn(maps, tokens(0, 0), 1, 1)
    assert all(map(math.isnan, chances.hazards(maps, tokens(0, 0))))
    assert (0.0, 1.0) == (chances.best_chance, chances.factor.value)
    assert maps.hazards == Calibration().hazards


def test_the_stream_is_followed_before_its_boards_map_is() -> None:
    maps, chances, other = Calibration(), DraftChances(), DraftChances()
    before = chances.hazards(maps, tokens(160))
    for _ in range(5):
        chances.learn(maps, tokens(160), 0, 1)
    assert chances.hazards(maps, tokens(160))[0] > 1.5 * before[0]
    assert before == other.hazards(maps, tokens(160))


def test_a_board_that_always_claims_to_be_sure_gains_nothing_by_it() -> None:
    """Its tokens are taken for what they are, after a few rounds; an honest board's stay."""
    random = Random(5)
    liar, honest = DeviceEstimates(), DeviceEstimates()
    of_liar, of_honest = liar.open_stream(), honest.open_stream()
    for _ in range(60):
        liar.observe_counts(of_liar, 0, 1, tokens(255))
        is_right = random.random() < 0.95
        honest.observe_counts(of_honest, int(is_right), int(not is_right), tokens(130))
    said_by_liar = of_liar.chances.hazards(liar.calibration, tokens(255))
    said_by_honest = of_honest.chances.hazards(honest.calibration, tokens(130))
    assert math.exp(-said_by_liar[0]) < 0.2
    assert math.exp(-said_by_honest[0]) == pytest.approx(0.95, abs=0.06)
    assert of_liar.chances.best_chance < 0.3


def test_the_next_stream_of_a_liar_begins_with_what_its_board_has_shown() -> None:
    liar = DeviceEstimates()
    first = liar.open_stream()
    for _ in range(200):
        liar.observe_counts(first, 0, 1, tokens(255))
    (hazard,) = liar.open_stream().chances.hazards(liar.calibration, tokens(255))
    assert math.exp(-hazard) < 0.1


def test_greedy_coupled_and_rejection_are_three_ways() -> None:
    warm = SamplingParameters(0.8)
    assert Way.GREEDY is way_of(make_stream(sampling=GREEDY).request)
    assert Way.COUPLED is way_of(make_stream(sampling=warm).request)
    assert Way.REJECTION is way_of(make_stream(sampling=warm, mode="rejection").request)


def test_a_board_is_told_where_to_stop_when_that_has_moved_and_when_it_comes_back() -> None:
    chances = DraftChances()
    chances.least_survival = 0.2
    assert 0 == chances.survival_to_tell()  # it does not say how sure it is
    chances.learn(Calibration(), tokens(160), 1, 0)
    assert 51 == chances.survival_to_tell()
    assert 0 == chances.survival_to_tell()
    chances.least_survival = 0.22
    assert 0 == chances.survival_to_tell()
    chances.least_survival = 0.3
    assert 76 == chances.survival_to_tell()
    chances.forget_told()
    assert 76 == chances.survival_to_tell()
