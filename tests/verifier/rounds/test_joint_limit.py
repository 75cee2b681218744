"""Two devices lengthen the rounds of others by no more together, however they share it out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from tests.support.ends.planning import make_curve, make_stream
from verifier.rounds.joint_limit import DraftRoom, longest_seconds
from verifier.rounds.prefill import PrefillLimits, PromptRoom, prompt_room
from verifier.streams.stream import Stream

# A round takes 100 ms and 1 ms more for each token.
CURVE = make_curve()
LIMITS = PrefillLimits(
    chunk_tokens=128,
    least_tokens=16,
    slowdown_limit=1.0,
    device_slowdown_limit=0.2,
)
numbers = itertools.count(1)


def decoding(device: str, num_streams: int = 1, row_seconds: float = 0.0) -> list[Stream]:
    streams = [
        make_stream(next(numbers), device=device, prompt_ids=(11,) * 16) for _ in range(num_streams)
    ]
    for stream in streams:
        stream.num_cached_tokens = 15
        stream.estimates.row_seconds = row_seconds
    return streams


def room_beside(*others: Sequence[Stream], devices: Sequence[str] = ("bad",)) -> PromptRoom:
    """For a long prompt of each of these devices, none of which has a turn."""
    prompts = [
        make_stream(next(numbers), device=device, prompt_ids=(11,) * 1000) for device in devices
    ]
    streams = [*prompts, *itertools.chain(*others)]
    return prompt_room(streams, DraftRoom(0), CURVE, LIMITS, without_turn=devices)


def test_beside_boards_with_a_stream_each_a_prompt_has_all_that_it_may() -> None:
    # 20 % of 102 ms.
    assert PromptRoom(20) == room_beside(decoding("good"), decoding("other"))


def test_what_a_helper_has_in_a_round_leaves_less_for_prompts() -> None:
    # 20 % of 102 ms less the 7 tokens of the helper beyond its first.
    helped = room_beside(decoding("good"), decoding("helper", 8))
    assert PromptRoom(13) == helped
    # And less what its rows take.
    dear = room_beside(decoding("good"), decoding("helper", 8, row_seconds=0.001))
    assert PromptRoom(5) == dear


def test_what_the_device_has_itself_counts_as_much() -> None:
    assert PromptRoom(13) == room_beside(decoding("good"), decoding("bad", 8))
    both = room_beside(decoding("good"), decoding("bad", 8), decoding("helper", 8))
    assert PromptRoom(6) == both


def test_of_several_devices_only_one_may_be_a_helper() -> None:
    honest = [decoding(f"board-{i}", 4) for i in range(5)]
    # 20 % of 118 ms less 3 tokens.
    assert PromptRoom(20) == room_beside(decoding("good"), *honest)


def test_a_prompt_gets_on_all_the_same_a_few_tokens_at_a_time() -> None:
    assert PromptRoom(4) == room_beside(decoding("good"), decoding("helper", 40))


def test_two_devices_with_prompts_have_no_helper_but_each_other() -> None:
    devices = ("bad", "worse")
    assert PromptRoom(21) == room_beside(decoding("good"), decoding("other", 8), devices=devices)
    assert PromptRoom(13) == room_beside(
        decoding("good"), decoding("bad", 5), decoding("worse", 4), devices=devices
    )


@pytest.mark.parametrize("num_streams", [1, 8])
def test_a_device_that_alone_waits_for_tokens_is_its_own_victim(num_streams: int) -> None:
    others = decoding("good", num_streams)
    assert longest_seconds(others, 0, {"bad"}, CURVE, 0.2) is None
