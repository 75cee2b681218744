"""The first of several stop strings to end, whatever pieces the text comes in."""

from __future__ import annotations

import time
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.protocol.stop_strings import StopMatcher

few_letters = st.text("ab", max_size=12).map(str.encode)


def first_end(content: bytes, stops: Sequence[bytes]) -> tuple[int, int] | None:
    """Found by trying every end."""
    for end in range(1, len(content) + 1):
        lengths = [len(stop) for stop in stops if stop and content[:end].endswith(stop)]
        if lengths:
            return end, max(lengths)
    return None


def pending(content: bytes, stops: Sequence[bytes]) -> int:
    """The longest end of the content that begins a stop string."""
    ends = range(len(content) + 1)
    return max(n for n in ends if n == 0 or any(s.startswith(content[-n:]) for s in stops))


@settings(max_examples=500)
@given(st.lists(few_letters, max_size=6), st.lists(few_letters, max_size=5))
def test_pieces_do_not_decide_what_is_found(pieces: list[bytes], stops: list[bytes]) -> None:
    matcher, read = StopMatcher(stops), b""
    for piece in pieces:
        found = matcher.find(piece)
        expected = first_end(read + piece, stops)
        if expected is None:
            assert found is None
        else:
            assert (expected[0] - len(read), expected[1]) == found
            return
        read += piece
        assert pending(read, stops) == matcher.num_pending_bytes


def test_an_empty_stop_string_stops_nothing() -> None:
    assert StopMatcher([b""]).find(b"abc") is None


def test_the_longest_of_those_that_end_together_counts() -> None:
    assert (4, 3) == StopMatcher([b"c", b"bc", b"abc"]).find(b"xabcabc")


def test_a_text_that_begins_a_stop_string_again_and_again_takes_one_step_a_byte() -> None:
    """Sixteen stop strings that differ in their last letter, over the text they are made of."""
    stops = [b"a" * 255 + bytes([last]) for last in range(98, 114)]
    content = b"a" * 100_000
    matcher, short = StopMatcher(stops), StopMatcher([b"b"])
    hard, easy = _seconds(matcher, content), _seconds(short, content)
    assert 255 == matcher.num_pending_bytes
    assert hard < 10 * easy


def _seconds(matcher: StopMatcher, content: bytes) -> float:
    started_at = time.thread_time()
    assert matcher.find(content) is None
    return time.thread_time() - started_at
