"""Threads, quantisations, and whether the board pays."""

from __future__ import annotations

import msgspec
import pytest

from edge_agent.doctor.speed_findings import (
    Trial,
    pays_finding,
    quantisation_finding,
    thread_counts,
    threads_finding,
)
from shared.doctor.findings import Level, ok, warning

PAYING = Trial(
    tokens_with=180,
    seconds_with=6.0,
    tokens_without=150,
    seconds_without=10.0,
    survived_tokens=80,
    rejections=20,
)


@pytest.mark.parametrize(
    ("num_cores", "configured", "expected"),
    [
        (1, 1, (1,)),
        (2, 1, (1, 2)),
        (4, 3, (3, 1, 2, 4)),
        (12, 1, (1, 2, 3, 4, 6, 12)),
        (2, 4, (4, 1, 2)),
    ],
)
def test_numbers_of_threads(num_cores: int, configured: int, expected: tuple[int, ...]) -> None:
    assert expected == thread_counts(num_cores, configured)


@pytest.mark.parametrize(
    ("speeds", "level", "remedy"),
    [
        ({1: 20.0}, "ok", None),
        ({1: 20.0, 2: 24.0}, "ok", None),
        ({1: 20.0, 2: 3.0}, "ok", None),
        ({1: 20.0, 2: 38.0, 4: 40.0}, "warning", "set draft.threads = 2"),
    ],
)
def test_threads(speeds: dict[int, float], level: Level, remedy: str | None) -> None:
    finding = threads_finding(speeds, configured=1)
    assert (level, remedy) == (finding.level, finding.remedy)
    assert "20 tokens/s with draft.threads = 1 (1: 20" in finding.sentence


def test_another_quantisation_is_named_if_it_is_much_faster() -> None:
    assert "no other draft" in quantisation_finding({"a": 10.0}, "a").sentence
    assert "set draft.model" not in quantisation_finding({"a": 10.0, "b": 12.0}, "a").sentence
    assert ok(
        "quantisation",
        "tokens/s of others over those of a: b 1.50, c 2.00; "
        "set draft.model = c if as many of its drafts are accepted",
    ) == quantisation_finding({"a": 10.0, "b": 15.0, "c": 20.0}, "a")


def test_a_draft_that_was_made_for_the_model_and_is_not_here_is_named() -> None:
    assert warning(
        "quantisation",
        "made was made to draft for a, is many times as fast, and is not here",
        "goodspeed-agent model pull made, set draft.model = made, then doctor again",
    ) == quantisation_finding({"a": 10.0, "b": 15.0}, "a", "made")


def test_a_board_that_pays() -> None:
    assert ok(
        "pays",
        "this board pays: 30.0 tokens/s with drafts, 15.0 without (2.00 times), "
        "80 % of draft tokens accepted, round trip 5.0 ms",
    ) == pays_finding(PAYING, draft_token_seconds=0.02, round_trip_seconds=0.005)


def trial(**changes: object) -> Trial:
    return msgspec.structs.replace(PAYING, **changes)


@pytest.mark.parametrize(
    ("measured", "draft_token_seconds", "round_trip_seconds", "words", "remedy"),
    [
        (trial(tokens_with=7), 0.02, 0.005, "too few tokens", "while the verifier has less"),
        (trial(tokens_with=90), 0.02, 0.8, "does not pay: 15.0", "it takes a round trip below"),
        (trial(tokens_with=90), 0.5, 0.005, "does not pay", "it takes drafting at"),
        (trial(tokens_with=60), 0.02, 0.005, "does not pay", "a processor each"),
        (
            trial(tokens_with=90, survived_tokens=0, rejections=0),
            *(0.02, 0.005, "asked for no draft at all", "of the tokens are accepted"),
        ),
        (
            trial(tokens_with=90, survived_tokens=1, rejections=99),
            *(2.0, 2.0, "1 % of draft tokens", "set draft.model to a model of the target's"),
        ),
    ],
)
def test_a_board_that_does_not_pay(
    measured: Trial,
    draft_token_seconds: float,
    round_trip_seconds: float,
    words: str,
    remedy: str,
) -> None:
    finding = pays_finding(measured, draft_token_seconds, round_trip_seconds)
    assert "warning" == finding.level
    assert words in finding.sentence
    assert finding.remedy is not None
    assert remedy in finding.remedy
