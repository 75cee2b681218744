"""What drafts should gain, and what it takes for them to."""

from __future__ import annotations

import re

import msgspec
import pytest

from edge_agent.doctor.payoff import SMALLEST_GAIN, Measures, conditions, predicted_gain

# A Raspberry Pi 5 beside a GPU that takes 30 ms for a token.
NEAR = Measures(
    acceptance_rate=0.8, draft_token_seconds=0.0125, round_trip_seconds=0.005, round_seconds=0.030
)


def changed(**changes: float) -> Measures:
    return msgspec.structs.replace(NEAR, **changes)


@pytest.mark.parametrize(
    ("measures", "least", "most"),
    [
        (NEAR, 1.5, 2.0),
        (changed(acceptance_rate=0.0), 1.0, 1.0),
        (changed(round_trip_seconds=2.0), 1.0, 1.0),
        (changed(draft_token_seconds=0.5), 1.0, 1.0),
        (changed(acceptance_rate=0.99, draft_token_seconds=0.001), 5.0, 17.0),
    ],
)
def test_the_gain_of_some_boards(measures: Measures, least: float, most: float) -> None:
    assert least <= round(predicted_gain(measures), 6) <= most


@pytest.mark.parametrize("name", ["draft_token_seconds", "round_trip_seconds"])
def test_what_takes_longer_never_gains_more(name: str) -> None:
    seconds = [0.0005 * 1.3**step for step in range(30)]
    gains = [predicted_gain(changed(**{name: each})) for each in seconds]
    assert gains == sorted(gains, reverse=True)


def test_better_drafts_never_gain_less() -> None:
    gains = [predicted_gain(changed(acceptance_rate=rate / 100)) for rate in range(100)]
    assert gains == sorted(gains)


def test_a_board_that_pays_needs_nothing() -> None:
    assert [] == list(conditions(NEAR))


def test_each_condition_pays_just_so() -> None:
    far = changed(round_trip_seconds=0.3)
    trip, rate = conditions(far)
    milliseconds = int(re.findall(r"below (\d+) ms", trip)[0])
    percent = int(re.findall(r"which (\d+) %", rate)[0])
    assert predicted_gain(changed(round_trip_seconds=(milliseconds - 1) / 1e3)) >= SMALLEST_GAIN
    assert predicted_gain(changed(round_trip_seconds=(milliseconds + 1) / 1e3)) < SMALLEST_GAIN
    better = msgspec.structs.replace(far, acceptance_rate=(percent + 1) / 100)
    assert predicted_gain(better) >= SMALLEST_GAIN


def test_a_slow_drafter_is_told_how_fast_it_must_be() -> None:
    (faster,) = conditions(changed(draft_token_seconds=0.2))
    assert re.fullmatch(r"drafting at \d+ tokens/s or more", faster)


def test_sometimes_no_single_change_helps() -> None:
    lost = Measures(
        acceptance_rate=0.1, draft_token_seconds=1.0, round_trip_seconds=1.0, round_seconds=0.01
    )
    assert [] == list(conditions(lost))
