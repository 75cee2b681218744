"""Which way to accept drafts where the request leaves it open."""

from __future__ import annotations

import pytest

from shared.protocol.messages import AcceptanceMode
from verifier.scheduling.acceptance_mode import automatic_mode
from verifier.streams.estimates import DeviceEstimates


def board(*, token: float | None = 0.003, round_trip: float | None = 0.0) -> DeviceEstimates:
    estimates = DeviceEstimates()
    estimates.speed.draft_token_seconds = token
    estimates.speed.round_trip_seconds = round_trip
    return estimates


@pytest.mark.parametrize(
    ("estimates", "round_seconds", "expected"),
    [
        (board(), 0.15, "rejection"),  # 8 tokens take a sixth of a round
        (board(), 0.06, "coupled"),  # two fifths
        (board(), 0.02, "coupled"),  # they take longer than one
        (board(round_trip=0.1), 0.15, "coupled"),
        (board(token=None), 0.15, "coupled"),
        (board(round_trip=None), 0.15, "coupled"),
        (board(token=0.0), 0.15, "coupled"),  # n-grams alone
    ],
)
def test_waiting_must_be_cheap(
    estimates: DeviceEstimates, round_seconds: float, expected: AcceptanceMode
) -> None:
    assert expected == automatic_mode(estimates, round_seconds)
