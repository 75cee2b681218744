"""Estimates follow what rounds report, fade the old, and pass from a device to its streams."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.streams.acceptance_estimate import (
    ACCEPTANCE_SMOOTHING,
    MAX_ACCEPTANCE_RATE,
    MIN_ACCEPTANCE_RATE,
    PRIOR_POSITIONS,
    AcceptanceEstimate,
)
from verifier.streams.estimates import (
    MIN_TOKENS_PER_ROUND,
    DeviceEstimates,
    GoodputEstimate,
    SpeedEstimate,
)

draft_counts = st.tuples(st.integers(0, 64), st.integers(0, 1))


def test_a_settled_estimate_moves_by_the_smoothing_as_in_the_paper() -> None:
    estimate = AcceptanceEstimate()
    for _ in range(200):
        estimate.observe_probs([0.5])
    estimate.observe_probs([1.0, 0.6, 0.8])
    assert 0.5 + ACCEPTANCE_SMOOTHING * (0.8 - 0.5) == pytest.approx(estimate.rate)


def test_the_first_drafts_count_like_the_first_guess() -> None:
    estimate = AcceptanceEstimate(initial_rate=0.6)
    estimate.observe_probs([0.9, 0.9])
    estimate.observe_probs([0.3])
    assert (0.6 + 0.9 + 0.3) / 3 == pytest.approx(estimate.rate)


def test_an_empty_draft_says_nothing() -> None:
    estimate = AcceptanceEstimate(initial_rate=0.7)
    estimate.observe_probs([])
    estimate.observe_counts(0, 0)
    assert 0.7 == estimate.rate
    estimate.observe_probs([0.5])
    assert (0.7 + 0.5) / 2 == pytest.approx(estimate.rate)  # it was the first draft


@pytest.mark.parametrize("bad", [1.5, -0.1, float("nan")])
def test_probabilities_outside_zero_to_one_are_a_bug(bad: float) -> None:
    with pytest.raises(AssertionError, match="outside"):
        AcceptanceEstimate().observe_probs([bad])


def test_counts_are_a_fading_ratio_of_accepted_to_reached() -> None:
    estimate = AcceptanceEstimate(initial_rate=0.5, smoothing=0.2)
    estimate.observe_counts(3, 1)
    estimate.observe_counts(2, 0)
    accepted = (PRIOR_POSITIONS * 0.5 * 0.8 + 3) * 0.8 + 2
    reached = (PRIOR_POSITIONS * 0.8 + 4) * 0.8 + 2
    assert accepted / reached == pytest.approx(estimate.rate)


def test_counts_recover_from_a_wrong_past() -> None:
    estimate = AcceptanceEstimate()
    for _ in range(100):
        estimate.observe_counts(0, 1)
    assert MIN_ACCEPTANCE_RATE == estimate.rate
    for _ in range(30):
        estimate.observe_counts(4, 0)
    assert estimate.rate > 0.95


@given(
    st.lists(
        st.one_of(draft_counts, st.lists(st.floats(0.0, 1.0), max_size=8)),
        max_size=40,
    )
)
def test_the_rate_stays_inside_its_bounds(reports: list[tuple[int, int] | list[float]]) -> None:
    estimate = AcceptanceEstimate()
    for report in reports:
        if isinstance(report, tuple):
            estimate.observe_counts(*report)
        else:
            estimate.observe_probs(report)
        assert MIN_ACCEPTANCE_RATE <= estimate.rate <= MAX_ACCEPTANCE_RATE


def test_goodput_counts_rounds_without_the_device_as_zero() -> None:
    estimate = GoodputEstimate(smoothing=0.2)
    for _ in range(200):
        estimate.observe_round(4, 0.1)
        estimate.observe_round(0, 0.1)
    assert 2.0 == pytest.approx(estimate.tokens_per_round, abs=0.25)
    assert estimate.tokens_per_second == pytest.approx(20.0, abs=2.5)


def test_rounds_in_which_a_device_only_has_its_prompt_read_say_nothing_of_its_steady_goodput() -> (
    None
):
    estimate = GoodputEstimate()
    for _ in range(200):
        estimate.observe_round(2, 0.1)
    for _ in range(50):
        estimate.observe_round(0, 0.1, writes=False)
    assert 2.0 == pytest.approx(estimate.steady_tokens_per_round, abs=0.05)
    assert estimate.tokens_per_round < 0.1


def test_goodput_per_second_is_tokens_over_time_not_a_mean_of_ratios() -> None:
    assert GoodputEstimate().tokens_per_second is None
    estimate = GoodputEstimate()
    estimate.observe_round(1, 0.5)
    assert 2.0 == estimate.tokens_per_second
    for _ in range(300):
        estimate.observe_round(1, 0.1)
        estimate.observe_round(9, 0.9)
    assert 10.0 == pytest.approx(estimate.tokens_per_second, rel=0.01)


def test_goodput_of_a_starved_device_stays_above_zero() -> None:
    estimate = GoodputEstimate()
    for _ in range(10_000):
        estimate.observe_round(0, 0.1)
    assert MIN_TOKENS_PER_ROUND == estimate.tokens_per_round


def test_speed_starts_with_the_first_sample_and_is_smoothed_from_there() -> None:
    speed = SpeedEstimate(smoothing=0.25)
    assert (None, None) == (speed.draft_token_seconds, speed.round_trip_seconds)
    speed.observe_drafting(0, 1.0)
    assert speed.draft_token_seconds is None
    speed.observe_drafting(4, 0.4)
    speed.observe_drafting(2, 0.4)
    speed.observe_round_trip(0.02)
    assert 0.125 == pytest.approx(speed.draft_token_seconds)
    assert 0.02 == speed.round_trip_seconds


def test_a_board_cannot_claim_to_be_slower_than_any_board_of_worth() -> None:
    speed = SpeedEstimate()
    speed.observe_drafting(1, 12 * 86_400.0)
    assert 10.0 == speed.draft_token_seconds


def test_a_new_stream_starts_where_its_device_stands_and_goes_its_own_way() -> None:
    device = DeviceEstimates()
    for _ in range(50):
        device.acceptance.observe_counts(9, 1)
    device.speed.observe_drafting(1, 0.01)
    stream = device.open_stream()
    assert device.acceptance.rate == stream.acceptance.rate
    assert device.speed is stream.speed
    before = device.acceptance.rate
    stream.acceptance.observe_probs([0.0])
    assert before * (1.0 - ACCEPTANCE_SMOOTHING) == pytest.approx(stream.acceptance.rate)
    assert before == device.acceptance.rate
    assert 1.0 == device.goodput.tokens_per_round
