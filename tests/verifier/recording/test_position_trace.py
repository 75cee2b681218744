from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.recording.lines import LatePart, StreamPart
from verifier.recording.position_trace import Bit, Marks, completed, position_marks


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
def test_of_an_older_recording_what_was_tested_stands_at_its_position(
    parts: list[tuple[int, int, int]], expected: list[Bit]
) -> None:
    marks = position_marks(StreamPart(1, *part) for part in parts)
    assert (expected, [0] * len(expected)) == marks


def test_what_met_the_target_untested_stands_at_its_position_with_what_the_board_said() -> None:
    right = StreamPart(1, 1, 1, 1, 2, bytes([200, 90]))  # one was tested, the bonus was drafted too
    wrong = StreamPart(1, 0, 0, 1, 0, bytes([30]))
    alone = StreamPart(1, 0, 0, 1)
    marks = position_marks([right, wrong, alone])
    assert ([1, 1, 0, None], [200, 90, 30, 0]) == marks


def test_what_came_late_stands_where_it_was_drafted() -> None:
    alone = StreamPart(1, 0, 0, 1)
    late = StreamPart(1, 0, 0, 1, late=(LatePart(2, 1, bytes([150, 40])), LatePart(9, 0, b"a")))
    assert ([None, 1, 0, None], [0, 150, 40, 0]) == position_marks([alone, alone, alone, late])


bits_and_words = st.lists(
    st.one_of(st.just((None, 0)), st.tuples(st.integers(0, 1), st.integers(0, 255)))
)


@given(st.lists(bits_and_words, max_size=5), st.integers())
def test_what_is_known_stays_and_all_else_is_drawn(
    texts: list[list[tuple[Bit, int]]], seed: int
) -> None:
    streams = [Marks([bit for bit, _ in text], [word for _, word in text]) for text in texts]
    trace = completed(streams, Random(seed))
    flat = [pair for text in texts for pair in text]
    assert len(flat) == len(trace.bits) == len(trace.confidences)
    assert all(bit in (None, drawn) for (bit, _), drawn in zip(flat, trace.bits, strict=True))
    assert set(trace.bits) <= {0, 1}
    told = {word for _, word in flat if word}
    assert set(trace.confidences) <= (told or {0})
    pairs = zip(flat, trace.confidences, strict=True)
    assert all(word in (0, drawn) for (_, word), drawn in pairs)
    assert trace == completed(streams, Random(seed))


def test_a_board_is_as_sure_of_what_is_drawn_as_it_was_of_tokens_like_it() -> None:
    random = Random(4)
    text = Marks([], [])
    for _ in range(600):
        bit = int(random.random() < 0.7)
        is_known = random.random() < 0.5
        text.bits.append(bit if is_known else None)
        text.confidences.append((220 if bit else 60) if is_known else 0)
    trace = completed([text], Random(1))
    assert {(1, 220), (0, 60)} == set(zip(trace.bits, trace.confidences, strict=True))


def test_a_board_of_which_nothing_was_tested_is_never_right() -> None:
    nothing = [Marks([None, None], [0, 0]), Marks([None], [0])]
    assert ((0, 0, 0), bytes(3)) == completed(nothing, Random(1))
