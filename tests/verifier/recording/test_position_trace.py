from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.recording.lines import StreamPart
from verifier.recording.position_trace import Bit, completed, position_bits


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([(0, 0, 1)], [None]),  # the target alone
        ([(3, 3, 1)], [1, 1, 1, None]),  # and a bonus
        ([(3, 2, 1)], [1, 1, 0]),
        ([(3, 0, 1), (2, 1, 1)], [0, 1, 0]),
        ([(3, 1, 4)], [1, 0, None, None, None]),  # a grammar forced what follows
        ([(2, 2, 0)], [1, 1]),  # a stop string ended the text
    ],
)
def test_what_was_tested_stands_at_its_position(
    parts: list[tuple[int, int, int]], expected: list[Bit]
) -> None:
    assert expected == position_bits(StreamPart(1, *part) for part in parts)


@given(st.lists(st.lists(st.sampled_from([0, 1, None])), max_size=5), st.integers())
def test_what_was_tested_stays_and_all_else_is_drawn(streams: list[list[Bit]], seed: int) -> None:
    trace = completed(streams, Random(seed))
    flat = [bit for bits in streams for bit in bits]
    assert len(flat) == len(trace)
    assert all(bit in (None, drawn) for bit, drawn in zip(flat, trace, strict=True))
    assert set(trace) <= {0, 1}
    assert trace == completed(streams, Random(seed))


def test_a_board_of_which_nothing_was_tested_is_never_right() -> None:
    assert (0, 0, 0) == completed([[None, None], [None]], Random(1))
