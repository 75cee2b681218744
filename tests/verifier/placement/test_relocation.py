"""A lost worker takes no stream with it: each goes on as it was, elsewhere or there."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ends.planning import add, draft, make_planner, make_stream, play, start
from tests.verifier.rounds.test_places import BRINGS, World
from verifier.placement.relocation import (
    all_streams,
    in_moving_order,
    lose_cache,
    move_stream,
    take_back_round,
)
from verifier.rounds.blocks import BlockPool
from verifier.rounds.planner import RoundPlanner
from verifier.rounds.quarantine import MOST_LOSSES_ALONE
from verifier.streams.place import Place
from verifier.streams.stream import Stream
from verifier.target.round import ItemFailure


def lose(planner: RoundPlanner, now: float = 0.0) -> None:
    lose_cache(planner, BlockPool(planner.blocks.num_blocks, planner.blocks.block_tokens), now)


def as_it_is(stream: Stream) -> tuple[Any, ...]:
    """What must not change."""
    return (
        stream.request,
        tuple(stream.output_ids),
        stream.path,
        (stream.draft_length, stream.window, stream.granted_end),
        (stream.board_is_ready, stream.finish, stream.waiting_since),
    )


@pytest.mark.parametrize("place", [place for place in BRINGS if place is not Place.GONE])
def test_a_stream_goes_on_wherever_it_stood(place: Place) -> None:
    world = World(place)
    before = as_it_is(world.stream)
    if world.round is not None:
        assert [] == take_back_round(world.planner)
        world.round = None
    world.check()
    lose(world.planner)
    world.check()
    assert 0 == world.planner.blocks.num_blocks - world.planner.blocks.num_free_blocks
    if place is Place.DISCARDING:
        assert Place.GONE is world.stream.place
        return
    assert before == as_it_is(world.stream)
    assert 0 == world.stream.num_cached_tokens
    is_parked = place in (Place.PARKED, Place.PARKING)
    assert is_parked == (world.stream.place is Place.PARKED)
    target = make_planner()
    move_stream(world.stream, world.planner, target, 0.0)
    assert world.stream not in all_streams(world.planner)
    assert [world.stream] == all_streams(target)
    if is_parked:
        target.unpark(world.stream)
    results = play(target)
    assert [world.stream] == [result.stream for result in results]
    target.blocks.check_integrity()


@pytest.mark.parametrize("place", [Place.RUNNING, Place.PARKING])
def test_a_stream_that_was_cancelled_in_the_lost_round_ends(place: Place) -> None:
    world = World(place)
    assert world.planner.cancel(world.stream) is None
    (result,) = take_back_round(world.planner)
    assert world.stream is result.stream
    assert result.failure is None
    assert Place.GONE is world.stream.place
    world.round = None
    world.check()


def test_drafts_that_were_here_are_tested_at_the_other_worker() -> None:
    source, target = make_planner(), make_planner()
    stream = make_stream(1, mode="rejection")
    add(source, stream)
    stream.board_is_ready = True
    play(source)
    draft(stream, 21, 22, 23)
    first = start(source)
    take_back_round(source)
    lose(source)
    move_stream(stream, source, target, 0.0)
    second = start(target)
    (lost,), (again,) = first.items, second.items
    assert lost.draft_check == again.draft_check
    assert lost.token_ids == again.token_ids[-len(lost.token_ids) :]
    assert 0 == again.num_cached_tokens


def test_a_stream_alone_in_lost_rounds_ends_in_the_end() -> None:
    planner, stream = make_planner(), make_stream(1)
    add(planner, stream)
    for _ in range(MOST_LOSSES_ALONE - 1):
        start(planner)
        assert [] == take_back_round(planner)
        lose(planner)
    start(planner)
    (result,) = take_back_round(planner)
    assert ItemFailure.WORKER_LOST is result.failure
    assert stream.finish is not None
    assert [] == all_streams(planner)
    planner.blocks.check_integrity()


@given(st.lists(st.sampled_from(["begun", "queued"]), min_size=1, max_size=8))
def test_streams_keep_their_order(kinds: list[str]) -> None:
    source, target = make_planner(num_blocks=400), make_planner(num_blocks=400)
    streams = [make_stream(n) for n in range(1, len(kinds) + 1)]
    begun = [s for s, kind in zip(streams, kinds, strict=True) if kind == "begun"]
    add(source, *begun)
    if begun:
        play(source)
    add(source, *[stream for stream in streams if stream not in begun])
    lose(source)
    expected = [stream.number for stream in all_streams(source)]
    for stream in in_moving_order(all_streams(source)):
        move_stream(stream, source, target, 0.0)
    assert expected == list(target.queue)
    assert [] == all_streams(source)
