"""Drafts are tested in everybody's own length first; what is left goes to boards that are ahead."""

from __future__ import annotations

import pytest

from tests.support.ends.planning import draft, make_planner, make_stream, play, served
from verifier.policies import FixedPolicy
from verifier.rounds.packing import RoundRoom, pack
from verifier.rounds.planner import RoundPlanner
from verifier.target.round import Round


def planner_with_drafts(*num_drafts: int) -> RoundPlanner:
    """Streams 1, 2, … whose boards were granted 2 tokens each and have sent so many."""
    planner = make_planner(policy=FixedPolicy(2), num_blocks=1000)
    streams = [make_stream(number) for number in range(1, len(num_drafts) + 1)]
    for stream in streams:
        planner.add(stream)
        stream.board_is_ready = True
    play(planner)
    for stream, count in zip(streams, num_drafts, strict=True):
        stream.granted_end = stream.position + count  # from when it was granted more
        draft(stream, *range(30, 30 + count))
    return planner


@pytest.mark.parametrize(
    ("budget_tokens", "tested"),
    [
        (4, {1: 2, 2: 2, 3: 0}),  # an own length each, oldest first
        (6, {1: 2, 2: 2, 3: 2}),
        (7, {1: 3, 2: 2, 3: 2}),  # the rest to the first that has more
        (20, {1: 6, 2: 2, 3: 5}),
    ],
)
def test_a_board_that_is_far_ahead_takes_nothing_from_the_others(
    budget_tokens: int, tested: dict[int, int]
) -> None:
    planner = planner_with_drafts(6, 2, 5)
    room = RoundRoom(num_tokens=100, num_prompt_tokens=10, num_drafts=budget_tokens)
    items = pack(planner.streams.values(), room, planner.blocks)
    assert {number: 1 + count for number, count in tested.items()} == served(Round(tuple(items)))
