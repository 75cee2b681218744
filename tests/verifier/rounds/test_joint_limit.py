"""Two devices lengthen the rounds of others by no more together, however they share it out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from tests.support.ends.planning import chunk, make_curve, make_stream, send
from verifier.rounds.joint_limit import DraftRoom, draft_room, longest_seconds
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


def drafted(num_live: int) -> Stream:
    """Of the board `bad`, with so many drafts that are here."""
    (stream,) = decoding("bad")
    stream.grant(num_live, num_live, 0.0)
    if num_live:
        send(stream, chunk(*[20] * num_live, has_rows=False))
    return stream


def test_drafts_that_are_counted_leave_less_for_prompts() -> None:
    drafting = drafted(8)
    prompt = make_stream(next(numbers), device="new", prompt_ids=(11,) * 1000)
    streams = [prompt, drafting, *decoding("good")]

    def room(drafts: DraftRoom) -> PromptRoom:
        return prompt_room(streams, drafts, CURVE, LIMITS, without_turn=["new"])

    # 20 % of 110 ms, as the drafts have a limit of their own; 20 % of 102 ms less the 8 drafts.
    assert PromptRoom(22) == room(DraftRoom(64))
    assert PromptRoom(12) == room(DraftRoom(64, are_counted=True))


def drafts_beside(
    *others: Sequence[Stream],
    num_live: int = 64,
    prompt: bool = False,
    slowdown_limit: float = 0.05,
) -> DraftRoom:
    """Of those of a board with one stream."""
    drafting = drafted(num_live)
    streams = [drafting, *itertools.chain(*others)]
    if prompt:
        streams.append(make_stream(next(numbers), device="new", prompt_ids=(11,) * 1000))
    return draft_room(streams, 64, CURVE, slowdown_limit, 0.2, LIMITS.few_tokens)


def gaining(*streams: Stream) -> list[Stream]:
    """Their device has got two tokens in each round for long."""
    for stream in streams:
        for _ in range(200):
            stream.estimates.goodput.observe_round(2 * len(streams), 0.1)
    return list(streams)


def test_beside_a_board_that_gains_nothing_no_round_is_longer_by_drafts_than_it_may_be() -> None:
    # 20 % of 102 ms.
    assert DraftRoom(20, are_counted=True) == drafts_beside(decoding("good"))


def test_where_drafts_may_lengthen_rounds_by_more_they_do() -> None:
    assert DraftRoom(64) == drafts_beside(decoding("good"), slowdown_limit=10.0)


def test_what_two_devices_have_of_streams_leaves_less_for_drafts() -> None:
    # 20 % of 103 ms less the 7 tokens of the helper beyond its first.
    assert DraftRoom(13, are_counted=True) == drafts_beside(decoding("good"), decoding("helper", 8))
    dear = drafts_beside(decoding("good"), decoding("helper", 8, row_seconds=0.001))
    assert DraftRoom(5, are_counted=True) == dear
    # One that must be tested may be waiting.
    assert DraftRoom(1, are_counted=True) == drafts_beside(decoding("good"), decoding("helper", 40))


def test_beside_a_prompt_drafts_leave_it_its_part() -> None:
    assert DraftRoom(5, are_counted=True) == drafts_beside(decoding("good"), prompt=True)
    # 13 are left of both, four of them for prompts; and of nine too few.
    helped = drafts_beside(decoding("good"), decoding("helper", 16), prompt=True)
    assert DraftRoom(1, are_counted=True) == helped


def test_where_all_gain_by_drafts_or_make_them_the_policy_alone_limits_them() -> None:
    assert DraftRoom(64) == drafts_beside(gaining(*decoding("good", 2)))
    (asked,) = decoding("good")
    asked.draft_length = 1  # it has a draft to make
    assert DraftRoom(64) == drafts_beside([asked])


def test_a_board_delays_itself_by_its_drafts_as_it_likes() -> None:
    assert DraftRoom(64) == drafts_beside(decoding("bad"))
    assert DraftRoom(64) == drafts_beside(decoding("good"), num_live=0), "there are none"
