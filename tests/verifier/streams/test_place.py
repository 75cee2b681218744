"""Where a stream may go from where it is: every place with everything that can happen."""

from __future__ import annotations

from itertools import product

import pytest

from verifier.streams.place import IN_ROUND, TRANSITIONS, Move, Place, next_place

# One row for each place, one column for each move; a dot cannot happen.
COLUMNS = "add admit preempt start finish park unpark requeue end discard"
TABLE = """
new        queued .        .         .       .        .       .        .      .    .
queued     .      admitted .         .       .        parked  .        .      gone gone
preempted  .      admitted .         .       .        parked  .        .      gone gone
admitted   .      .        preempted running .        parked  .        .      gone gone
running    .      .        .         .       admitted parking .        .      gone discarding
parking    .      .        .         .       parked   .       running  .      gone discarding
discarding .      .        .         .       gone     .       .        .      gone discarding
parked     .      .        .         .       .        .       admitted queued gone gone
gone       .      .        .         .       .        .       .        .      .    gone
"""


def expected() -> dict[tuple[Place, Move], str]:
    moves = {move.value.split()[0]: move for move in Move}
    assert list(moves) == COLUMNS.split()
    return {
        (Place(place), move): following
        for place, *row in map(str.split, TABLE.strip().splitlines())
        for move, following in zip(moves.values(), row, strict=True)
    }


@pytest.mark.parametrize(("place", "move"), [*product(Place, Move)])
def test_every_move_leads_where_the_table_says_or_is_our_bug(place: Place, move: Move) -> None:
    following = expected()[place, move]
    if following != ".":
        assert Place(following) is next_place(place, move)
    else:
        with pytest.raises(AssertionError, match=f"{move.value} cannot happen .* {place.value}"):
            next_place(place, move)


def test_every_stream_can_end_and_nothing_comes_back_from_there() -> None:
    for place in set(Place) - {Place.NEW, Place.GONE}:
        assert TRANSITIONS[place, Move.END] is Place.GONE
    assert {Place.GONE} == {
        following for (place, _), following in TRANSITIONS.items() if place is Place.GONE
    }


def test_when_a_round_is_over_no_stream_is_in_it() -> None:
    ends = {place: TRANSITIONS.get((place, Move.FINISH_ROUND)) for place in Place}
    assert set(IN_ROUND) == {place for place, end in ends.items() if end is not None}
    assert not IN_ROUND & set(ends.values())
