"""A board stops where what it drafted is too doubtful for the verifier's price."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.drafting.survival_watch import SurvivalWatch
from edge_agent.drafting.verdict import Committed
from shared.protocol.draft_path import DraftToken
from shared.protocol.messages import AcceptanceMode
from shared.speculation.calibration import CELL_OF, Calibration, Way

SURE, DOUBTFUL = 200, 40


def tokens(*confidences: int) -> tuple[DraftToken, ...]:
    return tuple(DraftToken(1, confidence=confidence) for confidence in confidences)


def watch(least_survival: float, mode: AcceptanceMode = "coupled") -> SurvivalWatch:
    made = SurvivalWatch()
    made.begin(mode, is_greedy=True)
    made.learn((), Committed((), 0, 0, 0, 0), round(255 * least_survival))
    return made


def met(num_accepted: int, num_dead: int = 0) -> Committed:
    return Committed((), num_accepted, num_accepted + int(num_dead > 0), num_dead, num_accepted)


def test_without_the_verifiers_word_a_board_drafts_on() -> None:
    made = SurvivalWatch()
    made.begin("coupled", is_greedy=True)
    assert not made.is_spent(tokens(*[DOUBTFUL] * 9))


def test_sure_tokens_are_drafted_on_behind_and_doubtful_ones_are_not() -> None:
    made = watch(0.3)
    assert not made.is_spent(tokens(*[SURE] * 12))
    assert made.is_spent(tokens(SURE, SURE), tokens(DOUBTFUL))


def test_behind_nothing_a_token_is_always_drafted() -> None:
    assert not watch(0.99).is_spent((), ())


def test_a_verdict_that_says_nothing_changes_nothing() -> None:
    made = watch(0.3)
    made.learn((), met(0))
    assert made.is_spent(tokens(DOUBTFUL))


def test_a_stream_that_is_opened_again_waits_for_the_verifiers_word() -> None:
    made = watch(0.9)
    made.begin("coupled", is_greedy=True)
    assert not made.is_spent(tokens(DOUBTFUL))


def test_a_board_learns_what_its_own_confidence_is_worth() -> None:
    made, random = watch(0.5), Random(2)
    for _ in range(400):
        is_right = random.random() < 0.2
        made.learn(tokens(SURE), met(int(is_right), int(not is_right)))
    assert made.is_spent(tokens(SURE))


def test_all_streams_of_a_board_share_what_it_has_learned() -> None:
    maps = Calibration()
    first, second = SurvivalWatch(maps), SurvivalWatch(maps)
    for _ in range(100):
        first.learn(tokens(SURE), met(0, 1))
    assert second.calibration.hazards[Way.GREEDY][CELL_OF[SURE]] > 1.0


@pytest.mark.parametrize(
    ("mode", "num_learned"),
    [("coupled", 9), ("rejection", 8)],  # learned by the dozen or so
)
def test_where_nobody_waits_untested_tokens_teach_as_well(
    mode: AcceptanceMode, num_learned: int
) -> None:
    made = watch(0.5, mode)
    settled = Committed((), num_accepted=2, num_tested=2, num_dead=0, num_survived=3)
    for _ in range(4):
        made.learn(tokens(SURE, SURE, SURE), settled)
    reached, _ = made.calibration.counts(Way.of(mode, is_greedy=True))
    assert num_learned == sum(reached)


def test_tokens_of_which_nothing_is_known_teach_nothing() -> None:
    made = watch(0.5)
    for _ in range(20):
        made.learn(tokens(0), met(0, 1))
    assert made.calibration.hazards == Calibration().hazards


@given(st.lists(st.integers(1, 255), max_size=20), st.floats(0.01, 0.95))
def test_a_longer_draft_is_never_less_spent(confidences: list[int], least: float) -> None:
    made = watch(least)
    spent = [made.is_spent(tokens(*confidences[:i])) for i in range(len(confidences) + 1)]
    assert sorted(spent) == spent
    hazards = made.calibration.hazards[Way.GREEDY]
    total = sum(hazards[CELL_OF[confidence]] for confidence in confidences)
    assert spent[-1] is (total > -math.log(round(255 * least) / 255))
