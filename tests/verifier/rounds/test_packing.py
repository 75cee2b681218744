"""Drafts are tested in everybody's own length first; what is left goes to boards that are ahead."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from tests.support.ends.planning import (
    draft,
    finish,
    make_planner,
    make_stream,
    play,
    served,
    start,
)
from verifier.policies import FixedPolicy, LiveDrafts
from verifier.rounds.packing import RoundRoom, pack
from verifier.rounds.planner import RoundPlanner
from verifier.rounds.prefill import PromptRoom
from verifier.streams.stream import Stream
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
    room = RoundRoom(num_tokens=100, prompts=PromptRoom(10), num_drafts=budget_tokens)
    items = pack(planner.streams.values(), room, planner.blocks)
    assert {number: 1 + count for number, count in tested.items()} == served(Round(tuple(items)))


def test_a_prompt_that_is_still_arriving_is_read_but_says_nothing() -> None:
    planner = make_planner()
    stream = make_stream()
    stream.is_arriving, stream.num_missing_tokens = True, 3
    planner.add(stream)
    first = start(planner)
    assert ({1: 4}, None) == (served(first), first.items[0].draft_check)
    assert [] == finish(planner, first)
    assert planner.start_round(0.2) is None, "there is nothing to read"
    stream.add_prompt((16, 17, 18))
    second = start(planner)
    assert ((15, 16, 17), None) == (second.items[0].token_ids, second.items[0].draft_check)
    stream.is_arriving = False  # its last part came in the middle of the round
    assert [] == finish(planner, second)
    third = start(planner)
    assert (18,) == third.items[0].token_ids, "its logits are needed"
    (result,) = finish(planner, third)
    assert (0, (20,)) == (result.settled.position, result.settled.own_token_ids)


def test_a_prompt_that_is_still_arriving_has_its_room_from_the_first_part_on() -> None:
    planner = make_planner(num_blocks=10, block_tokens=4)
    stream = make_stream(max_output_tokens=5)
    stream.is_arriving, stream.num_missing_tokens = True, 30
    planner.add(stream)
    play(planner)
    assert 40 == planner.blocks.num_reserved_tokens(1)
    assert 40 == stream.most_tokens


def test_the_policy_chooses_among_the_tokens_that_are_here() -> None:
    planner = planner_with_drafts(6, 2, 5)
    seen: list[list[int]] = []

    def choose(live: LiveDrafts, streams: Sequence[Stream], num_tokens: int) -> list[int]:
        seen.append([*live.num_testable, num_tokens, live.num_room])
        return [0, 1, 5]

    room = RoundRoom(num_tokens=100, prompts=PromptRoom(10), num_drafts=20)
    items = pack(list(planner.streams.values()), room, planner.blocks, choose)
    assert [[6, 2, 5, 3, 97]] == seen
    assert {1: 1, 2: 2, 3: 6} == served(Round(tuple(items)))


def test_no_round_tests_more_of_a_device_than_its_cap() -> None:
    planner = planner_with_drafts(6, 2)
    schedule = msgspec.structs.replace(planner.settings.schedule, device_caps={"board": 3})
    planner.replace_policy(FixedPolicy(8), schedule)
    assert {1: 4, 2: 3} == served(start(planner, 1.0))
