"""Each device's part of the cache: who is let in, and who gives way while others wait."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.ends.planning import (
    add,
    draft,
    finish,
    make_planner,
    make_stream,
    play,
    served,
    start,
)
from verifier.rounds.planner import RoundPlanner
from verifier.streams.place import Place
from verifier.streams.stream import Stream


def full_of(device: str, num_streams: int = 4, **changes: Any) -> tuple[RoundPlanner, list[Stream]]:
    """A cache of 16 blocks of 4 tokens, which the streams of one device fill."""
    planner = make_planner(num_blocks=16, block_tokens=4, reserved_output_tokens=11)
    streams = [
        make_stream(number, device=device, **({"max_output_tokens": 59} | changes))
        for number in range(1, num_streams + 1)
    ]
    add(planner, *streams)
    for stream in streams:
        stream.board_is_ready = True
    play(planner)
    assert 0 == planner.blocks.num_free_blocks
    return planner, streams


IDLE = {"mode": "rejection", "prompt_ids": (7,) * 52, "max_output_tokens": 12}


def newcomer(number: int, device: str, num_tokens: int = 16, **changes: Any) -> Stream:
    return make_stream(number, device=device, max_output_tokens=num_tokens - 5, **changes)


def test_a_device_beyond_its_share_gives_way_to_one_that_waits() -> None:
    planner, greedy = full_of("greedy")
    late = newcomer(9, "late")
    planner.add(late)
    assert 9 in served(start(planner, 1.0))
    assert [Place.RUNNING] * 3 + [Place.PREEMPTED] == [stream.place for stream in greedy]
    assert {"greedy": 12, "late": 4} == planner.admission.held_blocks()


def test_others_take_a_devices_room_down_to_its_share_and_no_further() -> None:
    planner, greedy = full_of("greedy")
    add(planner, *(newcomer(number, "late") for number in (9, 10, 11)))
    start(planner, 1.0)
    assert {"greedy": 8, "late": 8} == planner.admission.held_blocks()
    assert [3, 4, 11] == list(planner.queue)  # those beyond the share of their device
    assert greedy[0].place is Place.RUNNING


def test_who_gave_way_does_not_take_it_back() -> None:
    planner, _ = full_of("greedy")
    planner.add(newcomer(9, "late"))
    for number in range(8):
        play(planner, now=float(number))
    assert (1, 0.0) == (planner.admission.num_preemptions, planner.patience.num_draft_timeouts)
    assert {"greedy": 12, "late": 4} == planner.admission.held_blocks()


def test_a_stream_within_the_share_goes_before_those_beyond_it_that_came_earlier() -> None:
    planner, _ = full_of("greedy")
    planner.add(newcomer(8, "greedy"))
    planner.add(newcomer(9, "late"))
    start(planner, 1.0)
    assert [4, 8] == list(planner.queue)


def test_a_device_that_grows_beyond_its_share_takes_its_own_room() -> None:
    planner = make_planner(num_blocks=8, block_tokens=4, reserved_output_tokens=3)
    growing = [make_stream(number, device="growing", max_output_tokens=19) for number in (1, 2)]
    modest = newcomer(3, "modest", num_tokens=8)
    add(planner, *growing, modest)
    for number in range(9):
        if modest.finish is None:
            play(planner, now=float(number))
            assert modest.place is not Place.PREEMPTED
    assert modest.finish is not None


def test_a_device_keeps_its_only_stream_however_long_it_is() -> None:
    planner = make_planner(num_blocks=6, block_tokens=4, reserved_output_tokens=20)
    long = newcomer(1, "long", num_tokens=24)
    planner.add(long)
    play(planner)
    planner.add(newcomer(2, "late", num_tokens=8))
    assert {1: 1} == served(start(planner, 1.0))
    assert [2] == list(planner.queue)


@pytest.mark.parametrize(("waited_seconds", "loses"), [(0.9, False), (1.1, True)])
def test_a_stream_whose_board_owes_a_draft_loses_its_place_first(
    waited_seconds: float, loses: bool
) -> None:
    planner, greedy = full_of("greedy", mode="rejection")
    for stream in greedy[1:]:
        draft(stream, 31)
    planner.add(newcomer(9, "late"))
    start(planner, 0.1 + waited_seconds)
    assert (greedy[0].place is Place.PREEMPTED) is loses
    assert (greedy[3].place is Place.PREEMPTED) is not loses


def test_an_idle_stream_gives_way_to_another_device_even_within_its_share() -> None:
    planner, (stream,) = full_of("idle", num_streams=1, **IDLE)
    planner.add(newcomer(9, "late"))
    assert [9] == list(served(start(planner, 3.0)))
    assert stream.place is Place.PREEMPTED


def test_an_idle_stream_gets_its_place_back_when_its_draft_comes_and_not_before() -> None:
    planner, (stream,) = full_of("idle", num_streams=1, **IDLE)
    late = newcomer(9, "late")
    planner.add(late)
    finish(planner, start(planner, 3.0), now=3.1)
    planner.cancel(late)
    assert None is planner.start_round(3.2)
    assert 5.1 == planner.next_deadline()
    draft(stream, 31)
    assert [1] == list(served(start(planner, 3.3)))


def test_an_idle_stream_gets_its_place_back_when_the_wait_is_over() -> None:
    planner, (stream,) = full_of("idle", num_streams=1, **IDLE)
    late = newcomer(9, "late")
    planner.add(late)
    finish(planner, start(planner, 3.0), now=3.1)
    planner.cancel(late)
    assert [1] == list(served(start(planner, 5.2)))
    assert (1, False) == (planner.patience.num_draft_timeouts, stream.board_is_ready)


def test_how_long_each_device_waits_for_room_is_known() -> None:
    planner, greedy = full_of("greedy")
    add(planner, *(newcomer(number, "late") for number in (8, 9, 10)))
    start(planner, 2.0)
    assert {"greedy": 3.0, "late": 3.0} == planner.admission.waiting_seconds(5.0)
    planner.abandon_round()
    for stream in greedy:
        planner.discard(stream)
    start(planner, 6.0)
    assert {} == planner.admission.waiting_seconds(7.0)


# --- every stream comes to its end ----------------------------------------------------------------

wishes = st.fixed_dictionaries(
    {
        "device": st.sampled_from(["attic", "garage", "kitchen"]),
        "prompt_length": st.integers(1, 12),
        "max_output_tokens": st.integers(1, 20),
        "is_sampled": st.booleans(),
        "answers_after": st.integers(1, 12),  # rounds; then the verifier has given up
        "starts_at": st.integers(0, 20),
    }
)


@given(wishes=st.lists(wishes, min_size=1, max_size=8), num_spare=st.integers(0, 10))
@settings(max_examples=60, deadline=None)
def test_every_stream_comes_to_its_end_however_slowly_its_board_answers(
    wishes: list[dict[str, Any]], num_spare: int
) -> None:
    largest = max(wish["prompt_length"] + wish["max_output_tokens"] for wish in wishes)
    planner = make_planner(
        num_blocks=-(-largest // 2) + num_spare,
        block_tokens=2,
        reserved_output_tokens=3,
        draft_timeout_seconds=5.0,
    )
    streams = [
        make_stream(
            number,
            device=wish["device"],
            prompt_ids=tuple(range(1, wish["prompt_length"] + 1)),
            max_output_tokens=wish["max_output_tokens"],
            mode="rejection" if wish["is_sampled"] else "coupled",
        )
        for number, wish in enumerate(wishes)
    ]
    for now in range(3000):
        for stream, wish in zip(streams, wishes, strict=True):
            if wish["starts_at"] == now:
                planner.add(stream)
                stream.board_is_ready = True
            has_waited = now - stream.waiting_since >= wish["answers_after"]
            if stream.finish is None and stream.waits_for_board and has_waited:
                draft(stream, 31, now=float(now))
        round_ = planner.start_round(float(now))
        planner.blocks.check_integrity()
        if round_ is not None:
            finish(planner, round_, now=now + 0.1)
    assert all(stream.finish is not None for stream in streams), "a stream never ended"
