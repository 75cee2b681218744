"""Which draft suits a board, by how fast it is and what was judged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.drafts.kept_draft import KeptDraft
from verifier.drafts.suitability import BoardProfile, expected_round_tokens, most_suitable

MEGABYTE = 1_000_000
# A board that needs 10 ms for a token of a draft of 100 MB.
BOARD = BoardProfile(100 * MEGABYTE, 0.010)


def draft(megabytes: float, acceptance: float | None, labels: tuple[str, ...] = ()) -> KeptDraft:
    num_bytes = max(1, round(megabytes * MEGABYTE))
    return KeptDraft("0" * 64, num_bytes, "v", acceptance=acceptance, labels=labels)


LARGE, SMALL = draft(100, 0.95), draft(12, 0.7)


@pytest.mark.parametrize(
    ("round_milliseconds", "best"),
    [(5, "small"), (10, "small"), (60, "large"), (1000, "large")],
)
def test_short_rounds_take_a_small_draft_and_long_ones_a_good_one(
    round_milliseconds: float, best: str
) -> None:
    drafts = {"large": LARGE, "small": SMALL}
    assert best == most_suitable(drafts, BOARD, round_milliseconds / 1e3)


def test_it_is_chosen_among_those_with_one_of_the_labels() -> None:
    drafts = {"a": draft(12, 0.9), "b": draft(12, 0.6, ("code",)), "c": draft(12, 0.7, ("de",))}
    assert "a" == most_suitable(drafts, BOARD, 0.02)
    assert "b" == most_suitable(drafts, BOARD, 0.02, ["code"])
    assert "c" == most_suitable(drafts, BOARD, 0.02, ["code", "de"])
    assert None is most_suitable(drafts, BOARD, 0.02, ["fr"])


@pytest.mark.parametrize("profile", [BoardProfile(0, 0.01), BoardProfile(9, None)])
def test_of_a_board_that_tells_nothing_nothing_is_said(profile: BoardProfile) -> None:
    assert None is most_suitable({"small": SMALL}, profile, 0.05)


def test_what_was_not_judged_or_is_never_accepted_is_not_chosen() -> None:
    drafts = {"unknown": draft(1, None), "wrong": draft(1, 0.0)}
    assert None is most_suitable(drafts, BOARD, 0.05)


def test_of_equals_the_smaller_one_counts() -> None:
    drafts = {"a": draft(2, 0.7), "b": draft(1, 0.7), "c": draft(1, 0.7)}
    assert "b" == most_suitable(drafts, BOARD, 10.0), "both draft all that a round takes"


rates = st.floats(0.01, 1.0)
sizes = st.floats(0.1, 1000.0)
seconds = st.floats(1e-4, 10.0)


@given(size=sizes, rate=rates, better=rates, round_seconds=seconds, token_seconds=seconds)
def test_a_round_never_gives_less_than_the_target_alone_and_more_with_a_better_draft(
    size: float, rate: float, better: float, round_seconds: float, token_seconds: float
) -> None:
    profile = BoardProfile(10 * MEGABYTE, token_seconds)
    low, high = sorted((rate, better))
    worse = expected_round_tokens(draft(size, low), profile, round_seconds)
    best = expected_round_tokens(draft(size, high), profile, round_seconds)
    assert worse is not None
    assert best is not None
    assert 1.0 <= worse <= best + 1e-9
    larger = expected_round_tokens(draft(2 * size, low), profile, round_seconds)
    assert larger is not None
    assert larger <= worse + 1e-9
