"""What drafting ahead is worth over a slow link, in virtual time; and that the text stays the same.

A target of 60 ms a round and a board of 150 tokens/s, as in the issue's experiment: the figures
are simulated, the decisions are the product's own.
"""

from __future__ import annotations

import pytest

from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.support.network.slow_link import Arm, World, play

GOOD, MIDDLING, BAD = 0.01, 0.1, 0.5  # disagreements: 0.98, 0.85 and 0.4 of argmaxes are the same


def world(arm: Arm, *, disagreement: float = GOOD, round_trip_seconds: float = 0.1) -> World:
    return World(
        arm=arm,
        sampling=GREEDY,
        disagreement=disagreement,
        round_trip_seconds=round_trip_seconds,
    )


@pytest.mark.parametrize(
    ("round_trip_seconds", "disagreement", "against_waiting", "against_alone"),
    [
        (0.1, GOOD, 1.3, 4.0),
        (0.2, GOOD, 1.4, 3.5),
        (0.1, MIDDLING, 1.05, 1.5),
        (0.03, GOOD, 1.1, 5.0),
    ],
)
def test_drafting_ahead_hides_the_round_trip(
    round_trip_seconds: float, disagreement: float, against_waiting: float, against_alone: float
) -> None:
    speeds = {}
    for arm in ("alone", "waiting", "product"):
        told = world(arm, disagreement=disagreement, round_trip_seconds=round_trip_seconds)
        speeds[arm] = play(told).tokens_per_second
    assert speeds["product"] >= against_waiting * speeds["waiting"]
    assert speeds["product"] >= against_alone * speeds["alone"]


@pytest.mark.parametrize("round_trip_seconds", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("disagreement", [MIDDLING, BAD, 1.0])
def test_a_board_never_makes_a_stream_slower_than_the_target_alone(
    disagreement: float, round_trip_seconds: float
) -> None:
    arms: tuple[Arm, ...] = ("alone", "product")
    alone, product = (
        play(world(arm, disagreement=disagreement, round_trip_seconds=round_trip_seconds))
        for arm in arms
    )
    assert product.tokens_per_second >= 0.97 * alone.tokens_per_second


def test_a_board_that_only_burns_energy_is_told_to_stop() -> None:
    played = play(world("product", disagreement=1.0))
    assert played.drafted_per_token < 1.5


def test_the_text_is_the_same_over_any_link() -> None:
    sampling = SamplingParameters(0.8)
    texts = {
        play(
            World(
                arm=arm,
                sampling=sampling,
                disagreement=MIDDLING,
                round_trip_seconds=seconds,
                num_tokens=120,
            )
        ).token_ids
        for arm in ("alone", "product")
        for seconds in (0.0, 0.1)
    }
    assert 1 == len(texts)
