"""All streams of a round are moved as each alone would be."""

from __future__ import annotations

import pytest

from tests.support.ends.planning import make_stream
from verifier.rounds.moves import move_all
from verifier.streams.place import TRANSITIONS, Move, Place

ENDS = [place for place in Place if (place, Move.END) in TRANSITIONS]


def test_each_stream_goes_where_its_own_move_would_lead() -> None:
    streams = [make_stream(i) for i in range(2 * len(ENDS))]
    for stream, place in zip(streams, ENDS * 2, strict=True):
        stream.place = place
    move_all(streams, Move.END)
    assert [TRANSITIONS[place, Move.END] for place in ENDS * 2] == [s.place for s in streams]


def test_a_move_that_cannot_happen_to_one_fails() -> None:
    with pytest.raises(AssertionError, match="finish round cannot happen"):
        move_all([make_stream()], Move.FINISH_ROUND)
