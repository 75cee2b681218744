"""Rounds are padded to few numbers of tokens, and by little."""

from __future__ import annotations

from itertools import pairwise

from verifier.target.padded_rounds import (
    MOST_PADDED_TOKENS,
    padded_number,
    padded_sizes,
    padded_tokens,
    stepped_sizes,
)

ALL = range(1, MOST_PADDED_TOKENS + 1)


def test_a_round_is_padded_to_the_next_size() -> None:
    sizes = padded_sizes()
    for number in ALL:
        assert padded_tokens(number) == min(size for size in sizes if size >= number)


def test_at_most_a_third_is_padding_and_of_long_rounds_a_fifth() -> None:
    assert all(padded_tokens(number) - number <= padded_tokens(number) / 3 for number in ALL)
    assert all(padded_tokens(n) - n < padded_tokens(n) / 5 for n in ALL if n > 128)


def test_there_are_few_sizes() -> None:
    assert padded_sizes()[:14] == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128]
    assert padded_sizes()[14:19] == [160, 192, 224, 256, 320]
    assert len(padded_sizes()) == 30


def test_steps_of_long_rounds_are_known() -> None:
    assert stepped_sizes() == [size for size in padded_sizes() if size >= 128]
    assert all(left < right for left, right in pairwise(stepped_sizes()))


def test_nothing_is_padded_to_nothing() -> None:
    assert padded_number(0) == 0
