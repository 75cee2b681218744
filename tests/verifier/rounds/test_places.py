"""Whatever happens to a stream, wherever it stands: its place is where the planner has it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from tests.support.ends.planning import add, finish, make_planner, make_stream, play, start
from verifier.rounds.planner import RoundPlanner
from verifier.streams.place import IN_ROUND, TRANSITIONS, Move, Place
from verifier.streams.stream import Stream
from verifier.target.round import Round


class World:
    """A planner with one stream that is brought to a place, and another that stays."""

    def __init__(self, place: Place) -> None:
        self.planner: RoundPlanner = make_planner(
            num_blocks=12, block_tokens=4, reserved_output_tokens=3
        )
        self.stream = make_stream(2, device="moved", max_output_tokens=19)
        self.other = make_stream(1, device="other", max_output_tokens=19)
        self.round: Round | None = None
        BRINGS[place](self)
        assert place is self.stream.place

    def finish_round(self) -> list[Stream]:
        """Streams with a result."""
        if self.round is None:
            return []
        round_, self.round = self.round, None
        return [result.stream for result in finish(self.planner, round_)]

    def check(self) -> None:
        """The collections, the blocks and the place say the same."""
        planner, stream, number = self.planner, self.stream, self.stream.number
        place = stream.place
        assert (place in IN_ROUND or place is Place.ADMITTED) == (number in planner.streams)
        assert (place in (Place.QUEUED, Place.PREEMPTED)) == (number in planner.queue)
        assert (place is Place.PARKED) == (number in planner.admission.parked)
        if place in (Place.QUEUED, Place.PREEMPTED, Place.GONE):
            assert not planner.blocks.holds(number)
        elif place is not Place.PARKED:
            assert planner.blocks.holds(number)
        planner.blocks.check_integrity()


def run(world: World) -> None:
    add(world.planner, world.other, world.stream)
    world.round = start(world.planner)


def running_then(move: Callable[[RoundPlanner, Stream], object]) -> Callable[[World], None]:
    def bring(world: World) -> None:
        run(world)
        move(world.planner, world.stream)

    return bring


def admit(world: World) -> None:
    add(world.planner, world.other, world.stream)
    play(world.planner)


def preempt(world: World) -> None:
    world.planner = make_planner(num_blocks=6, block_tokens=4, reserved_output_tokens=3)
    add(world.planner, world.other, world.stream)
    for number in range(8):
        play(world.planner, now=float(number))
    world.round = start(world.planner, 8.0)


def park(world: World) -> None:
    admit(world)
    world.planner.park(world.stream)


def discard(world: World) -> None:
    admit(world)
    world.planner.discard(world.stream)


BRINGS: dict[Place, Callable[[World], None]] = {
    Place.QUEUED: lambda world: add(world.planner, world.stream),
    Place.PREEMPTED: preempt,
    Place.ADMITTED: admit,
    Place.RUNNING: run,
    Place.PARKING: running_then(RoundPlanner.park),
    Place.DISCARDING: running_then(RoundPlanner.discard),
    Place.PARKED: park,
    Place.GONE: discard,
}
MOVES = {
    Move.PARK: RoundPlanner.park,
    Move.UNPARK: RoundPlanner.unpark,
    Move.DISCARD: RoundPlanner.discard,
}


@pytest.mark.parametrize(("place", "move"), [*product(BRINGS, MOVES)])
def test_a_stream_goes_where_the_table_says(place: Place, move: Move) -> None:
    world = World(place)
    world.check()
    following = TRANSITIONS.get((place, move))
    if following is None:
        with pytest.raises(AssertionError, match="cannot happen"):
            MOVES[move](world.planner, world.stream)
        assert place is world.stream.place
    else:
        MOVES[move](world.planner, world.stream)
        assert following is world.stream.place
    world.check()
    is_settled = world.stream.place in (Place.RUNNING, Place.PARKING)
    assert is_settled == (world.stream in world.finish_round())
    world.check()


@pytest.mark.parametrize("place", [place for place in BRINGS if place is not Place.GONE])
def test_a_stream_that_is_cancelled_has_one_result_unless_it_is_discarded(place: Place) -> None:
    world = World(place)
    result = world.planner.cancel(world.stream)
    assert (place in IN_ROUND) == (result is None)
    world.check()
    told = [stream for stream in world.finish_round() if stream is world.stream]
    assert (place is not Place.DISCARDING) == (len(told) + (result is not None))
    assert Place.GONE is world.stream.place
    world.check()


@pytest.mark.parametrize("place", [Place.RUNNING, Place.PARKING, Place.DISCARDING])
def test_a_stream_whose_round_fails_is_gone(place: Place) -> None:
    world = World(place)
    told = [result.stream for result in world.planner.abandon_round()]
    assert (place is not Place.DISCARDING) == (world.stream in told)
    assert Place.GONE is world.stream.place
    world.check()


def test_a_parked_stream_whose_blocks_were_taken_is_queued_again() -> None:
    world = World(Place.PARKED)
    add(world.planner, *(make_stream(n, device="late", max_output_tokens=19) for n in (3, 4, 5)))
    world.round = start(world.planner)
    for number in range(15):
        world.finish_round()
        world.round = start(world.planner, float(number))
    assert not world.planner.blocks.holds(world.stream.number)
    world.planner.unpark(world.stream)
    assert Place.QUEUED is world.stream.place
    world.check()
