"""Who has a place in the cache: room as streams grow, places lost and found, prefixes shared."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import RequestRefused
from shared.speculation.sampling import GREEDY, SamplingParameters
from shared.speculation.scripted_model import SCRIPTED_END_ID, ScriptedModel
from tests.support.ends.planning import (
    add,
    chunk,
    draft,
    finish,
    live_ids,
    make_planner,
    make_stream,
    play,
    send,
    served,
    start,
)
from tests.support.models.cache_watch import CacheWatch
from verifier.policies import FixedPolicy
from verifier.rounds.planner import RoundPlanner
from verifier.rounds.prefix_names import PrefixSharing
from verifier.streams.place import Place
from verifier.streams.stream import Stream
from verifier.target.round import ItemFailure, ItemOutcome, Round, RoundOutcome
from verifier.target.scripted_target import ScriptedTarget


def tables(round_: Round) -> dict[int, tuple[int, ...]]:
    return {item.stream: item.block_table for item in round_.items}


# --- room -----------------------------------------------------------------------------------------


def test_a_stream_starts_with_room_for_a_part_of_its_output() -> None:
    planner = make_planner(num_blocks=12, block_tokens=4, reserved_output_tokens=8)
    streams = [make_stream(number, max_output_tokens=40) for number in (1, 2, 3, 4)]
    add(planner, *streams)
    assert {1: 5, 2: 5, 3: 5} == served(start(planner))  # 13 tokens, 4 blocks each
    assert [4] == list(planner.queue)


def test_a_stream_that_fits_alone_by_a_token_is_not_refused() -> None:
    planner = make_planner(num_blocks=6, block_tokens=4, reserved_output_tokens=1)
    planner.add(make_stream(max_output_tokens=19))
    with pytest.raises(RequestRefused, match="25 tokens exceed the cache of 24"):
        planner.add(make_stream(2, max_output_tokens=20))


def test_a_stream_gets_more_room_as_it_grows_in_one_run() -> None:
    planner = make_planner(num_blocks=40, block_tokens=4, reserved_output_tokens=3)
    streams = [make_stream(number, max_output_tokens=30) for number in (1, 2)]
    add(planner, *streams)
    for _ in range(29):
        play(planner)
    assert {1: tuple(range(9)), 2: tuple(range(9, 18))} == tables(start(planner))
    assert 0 == planner.admission.num_preemptions


# --- places lost and found again ------------------------------------------------------------------


def crowded(*changes: dict[str, Any], num_rounds: int) -> tuple[RoundPlanner, list[Stream]]:
    """Two streams that have filled a cache of 6 blocks of 4 tokens, with 3 blocks each."""
    planner = make_planner(num_blocks=6, block_tokens=4, reserved_output_tokens=3)
    streams = [
        make_stream(number + 1, device=f"board {number}", max_output_tokens=19, **change)
        for number, change in enumerate(changes or ({}, {}))
    ]
    add(planner, *streams)
    for stream in streams:
        stream.board_is_ready = True
    for number in range(num_rounds):
        play(planner, now=float(number))
    return planner, streams


def test_when_a_stream_cannot_grow_the_one_admitted_last_makes_room() -> None:
    planner, (first, second) = crowded(num_rounds=8)
    assert [12, 12] == [stream.num_cached_tokens for stream in (first, second)]
    assert {1: 1} == served(start(planner, 8.0))
    assert ([1], [2], 1) == (
        list(planner.streams),
        list(planner.queue),
        planner.admission.num_preemptions,
    )
    assert (Place.PREEMPTED, 0, 8) == (second.place, second.num_cached_tokens, second.position)


def test_who_lost_his_place_goes_before_all_who_wait_and_reads_his_tokens_anew() -> None:
    planner, (first, second) = crowded(num_rounds=8)
    late = make_stream(3, max_output_tokens=3, device="other")
    planner.add(late)
    start(planner, 8.0)
    assert [2, 3] == list(planner.queue)
    planner.cancel(first)
    planner.abandon_round()
    item, other = start(planner, 9.0).items
    assert (2, 3, Place.RUNNING) == (item.stream, other.stream, second.place)
    # Its first two full blocks are still there; the third one was taken.
    assert (second.tokens(8, 13), 8) == (item.token_ids, item.num_cached_tokens)
    assert (8, 5 + 5 + 13 + 5) == (
        planner.admission.num_prefix_hit_tokens,
        planner.admission.num_prefix_query_tokens,
    )


def test_the_last_one_gives_up_its_own_place_when_it_cannot_grow() -> None:
    planner = make_planner(num_blocks=7, block_tokens=4, reserved_output_tokens=3)
    waiting = make_stream(1, mode="rejection")
    add(planner, waiting)
    waiting.board_is_ready = True
    play(planner)
    filling = make_stream(2, max_output_tokens=19, device="other")
    add(planner, filling)
    for number in range(16):
        play(planner, now=number / 100)
    # The first one waits for its board with 2 blocks; the last one has 5 and needs another.
    assert 21 == filling.num_tokens
    assert None is planner.start_round(0.5)
    assert ([1], [2]) == (list(planner.streams), list(planner.queue))
    assert Place.PREEMPTED is filling.place


def test_what_a_stream_was_granted_and_what_is_live_survive() -> None:
    planner, (_, second) = crowded(num_rounds=6)
    draft(second, 31, 32, 33)
    finish(planner, start(planner, 6.0), {1: (0, 20), 2: (1, 32)}, now=6.1)
    granted = (second.window, second.granted_end, second.waiting_since)
    start(planner, 7.0)
    assert second.place is Place.PREEMPTED
    draft(second, 34, now=7.0)
    assert ([33, 34], 8) == (live_ids(second), second.position)
    assert granted == (second.window, second.granted_end, second.waiting_since)
    assert 0 < second.window


def test_drafts_take_nobodys_place_but_are_cut() -> None:
    planner, (first, second) = crowded(num_rounds=7)
    draft(first, 31, 32, 33)
    round_ = start(planner, 7.0)
    assert {1: 1, 2: 1} == served(round_)  # both have 12 tokens now, in 12 slots
    assert [31, 32, 33] == live_ids(first)
    assert Place.PREEMPTED is not second.place


def test_a_sampled_chunk_does_take_the_place_of_the_last() -> None:
    planner, (rejection, coupled) = crowded({"mode": "rejection"}, {}, num_rounds=1)
    for now in range(1, 7):
        draft(rejection, 40 + now)
        finish(planner, start(planner, float(now)), {1: (0, 20), 2: (0, 20)}, now=now + 0.1)
    assert (12, 12) == (rejection.num_tokens, coupled.num_tokens)
    draft(rejection, 50)
    assert {1: 2} == served(start(planner, 7.0))
    assert coupled.place is Place.PREEMPTED


def test_a_stream_without_a_place_has_no_rounds_but_its_wait_for_the_board_goes_on() -> None:
    planner, (first, second) = crowded({}, {"mode": "rejection"}, num_rounds=0)
    first.board_is_ready = False
    for now in range(12):
        play(planner, now=now / 10)
    # The last one has waited for its board since the first round.
    assert (17, 5.1) == (first.num_tokens, planner.next_deadline())
    assert Place.PREEMPTED is not second.place
    assert {1: 1} == served(start(planner, 1.2))
    assert (Place.PREEMPTED, 5.1) == (second.place, planner.next_deadline())


@pytest.mark.parametrize("is_discarded", [False, True])
def test_a_stream_without_a_place_may_be_cancelled_or_discarded(is_discarded: bool) -> None:
    planner, (first, second) = crowded(num_rounds=8)
    round_ = start(planner, 8.0)
    if is_discarded:
        planner.discard(second)
    else:
        result = planner.cancel(second)
        assert result is not None
        assert (8, "cancelled") == (result.settled.position, second.finish and second.finish.reason)
    assert {} == planner.queue
    assert [first] == [result.stream for result in finish(planner, round_)]
    planner.blocks.check_integrity()


def test_a_round_without_a_place_gave_nothing() -> None:
    planner, (_, second) = crowded(num_rounds=8)
    goodput = second.device_estimates.goodput
    before = goodput.tokens_per_round
    play(planner, now=8.0)
    assert second.place is Place.PREEMPTED
    assert goodput.tokens_per_round < before


def test_a_stream_that_waits_for_its_first_place_learns_nothing() -> None:
    planner, streams = crowded(num_rounds=6)
    third = make_stream(3, device="third", max_output_tokens=19)
    planner.add(third)
    goodputs = [stream.device_estimates.goodput for stream in (third, streams[0])]
    for goodput in goodputs:
        goodput.observe_round(9, 0.1)  # another round moves it
    before = [goodput.tokens_per_round for goodput in goodputs]
    play(planner, now=6.0)
    after = [goodput.tokens_per_round for goodput in goodputs]
    assert [3] == list(planner.queue)
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_a_chunk_waits_while_a_long_text_is_read_again_in_short_rounds() -> None:
    planner = make_planner(max_round_tokens=3, budget_tokens=1, prefill_chunk_tokens=3)
    stream = make_stream(mode="rejection", max_output_tokens=19)
    planner.add(stream)
    stream.board_is_ready = True
    play(planner)
    play(planner)
    send(stream, chunk(31, 32))
    stream.num_cached_tokens = 0
    # Its last token is read with a draft token behind it, never alone.
    assert [3, 2, 2] == [served(play_round(planner))[1] for _ in range(3)]
    assert [32] == live_ids(stream)


def play_round(planner: RoundPlanner) -> Round:
    round_ = start(planner)
    finish(planner, round_, {1: (1, None)})
    return round_


# --- boards that are gone -------------------------------------------------------------------------


def park(planner: RoundPlanner, *streams: Stream) -> None:
    for stream in streams:
        planner.park(stream)


def long_stream() -> Stream:
    """It needs 4 blocks of 4 tokens."""
    return make_stream(3, prompt_ids=tuple(range(30, 42)), max_output_tokens=3, device="other")


def test_a_parked_stream_has_no_rounds_but_keeps_its_blocks() -> None:
    planner, (_, second) = crowded(num_rounds=2)
    park(planner, second)
    assert {1: 1} == served(start(planner, 2.0))
    assert ([1], {2: second}, {}) == (
        list(planner.streams),
        planner.admission.parked,
        planner.queue,
    )
    assert second.num_cached_tokens == 6
    assert planner.blocks.holds(2)
    planner.blocks.check_integrity()


def test_who_comes_back_reads_nothing_anew_and_stands_behind_the_others() -> None:
    planner, _ = crowded(num_rounds=2)
    before = tables(start(planner, 2.0))
    planner.abandon_round()
    planner, (first, _) = crowded(num_rounds=2)
    park(planner, first)
    play(planner, 2.0)
    planner.unpark(first)
    round_ = start(planner, 3.0)
    assert {1: 1, 2: 1} == served(round_)
    assert [2, 1] == list(planner.streams)
    assert before[1] == tables(round_)[1]


def test_blocks_of_parked_streams_are_taken_before_anybody_loses_his_place() -> None:
    planner = make_planner(num_blocks=9, block_tokens=4, reserved_output_tokens=3)
    streams = [
        make_stream(number, device=f"board {number}", max_output_tokens=19) for number in (1, 2, 3)
    ]
    add(planner, *streams)
    for number in range(3):
        play(planner, now=float(number))
    park(planner, streams[1], streams[0])
    for number in range(3, 18):
        play(planner, now=float(number))
    # The last one has filled 6 blocks of 9: first the one that was parked first has lost its own.
    assert (23, 0) == (streams[2].num_tokens, planner.admission.num_preemptions)
    assert [True, False] == [planner.blocks.holds(number) for number in (1, 2)]
    assert [7, 0] == [stream.num_cached_tokens for stream in streams[:2]]
    planner.blocks.check_integrity()


def test_a_stream_that_waits_for_room_takes_the_blocks_of_parked_ones() -> None:
    planner, (first, _) = crowded(num_rounds=2)
    planner.add(long_stream())
    park(planner, first)
    assert {2: 1, 3: 12} == served(start(planner, 2.0))
    assert not planner.blocks.holds(1)


def test_who_lost_his_blocks_meanwhile_waits_for_room_and_reads_his_tokens_anew() -> None:
    planner, (first, second) = crowded(num_rounds=2)
    late = long_stream()
    planner.add(late)
    park(planner, first)
    play(planner, 2.0)
    planner.unpark(first)
    assert ([1], {}) == (list(planner.queue), planner.admission.parked)
    planner.cancel(second)
    planner.cancel(late)
    (item,) = start(planner, 3.0).items
    assert first.tokens(item.num_cached_tokens, 7) == item.token_ids
    assert item.num_cached_tokens in (0, 4)  # a block that nobody has taken since is still there


def test_a_parked_stream_that_waited_for_room_waits_again() -> None:
    planner, _ = crowded(num_rounds=2)
    late = long_stream()
    planner.add(late)
    park(planner, late)
    play(planner, 2.0)
    assert {} == planner.queue
    planner.unpark(late)
    assert [3] == list(planner.queue)


def test_a_parked_stream_may_be_discarded() -> None:
    planner, (first, second) = crowded(num_rounds=2)
    park(planner, first, second)
    assert None is planner.start_round(2.0)
    for stream in (first, second):
        planner.discard(stream)
    assert {} == planner.admission.parked
    assert planner.blocks.num_blocks == planner.blocks.num_free_blocks


# --- prefixes -------------------------------------------------------------------------------------


def finished(planner: RoundPlanner, stream: Stream) -> Stream:
    planner.add(stream)
    while stream.finish is None:
        play(planner)
    return stream


def next_turn(former: Stream, number: int, *more_ids: int, device: str = "board") -> Stream:
    """A prompt that starts with all of a former stream's text."""
    prompt_ids = (*former.tokens(0, former.num_tokens), *more_ids)
    return make_stream(number, prompt_ids=prompt_ids, device=device)


def test_the_next_turn_of_a_chat_reads_only_what_is_new_and_stays_one_run() -> None:
    planner = make_planner(num_blocks=100, block_tokens=4)
    first = finished(planner, make_stream(1, max_output_tokens=9))  # 14 tokens, 13 of them read
    second = next_turn(first, 2, 51, 52, 53)
    planner.add(second)
    (item,) = start(planner).items
    assert ((20, 20, 51, 52, 53), 12) == (item.token_ids, item.num_cached_tokens)
    assert (0, 1, 2, 3, 4) == item.block_table
    assert (12, 22) == (
        planner.admission.num_prefix_hit_tokens,
        planner.admission.num_prefix_query_tokens,
    )


def test_what_a_stream_found_is_its_prompts_part_when_it_first_started() -> None:
    planner = make_planner(block_tokens=4)
    first = finished(planner, make_stream(1, max_output_tokens=9))
    assert 0 == first.cached_prefix_tokens
    second = next_turn(first, 2, 51, 52, 53)
    planner.add(second)
    assert second.cached_prefix_tokens is None
    start(planner)
    assert 12 == second.cached_prefix_tokens


def test_what_a_stream_that_lost_its_place_finds_again_was_not_found_at_its_start() -> None:
    planner, (first, second) = crowded(num_rounds=8)
    start(planner, 8.0)
    planner.cancel(first)
    planner.abandon_round()
    start(planner, 9.0)
    assert (8, 0) == (second.num_cached_tokens, second.cached_prefix_tokens)


def test_output_of_a_stream_taken_up_again_is_no_part_of_the_prompt_that_is_found() -> None:
    planner = make_planner(block_tokens=4)
    first = finished(planner, make_stream(1, max_output_tokens=12))
    again = make_stream(2, max_output_tokens=20)
    again.take_up_again(tuple(first.output_ids))
    planner.add(again)
    (item,) = start(planner).items
    assert (16, 5) == (item.num_cached_tokens, again.cached_prefix_tokens)


def test_the_last_token_is_always_read() -> None:
    planner = make_planner(block_tokens=4)
    first = finished(planner, make_stream(1, prompt_ids=(11,) * 8, max_output_tokens=1))
    again = make_stream(2, prompt_ids=first.request.prompt_ids, max_output_tokens=1)
    planner.add(again)
    assert {2: 4} == served(start(planner))


def test_streams_share_what_one_of_them_has_read() -> None:
    planner = make_planner(block_tokens=4, num_blocks=100)
    prompt_ids = tuple(range(30, 71))
    first, second = (make_stream(n, prompt_ids=prompt_ids) for n in (1, 2))
    add(planner, first)
    play(planner)
    add(planner, second)
    round_ = start(planner)
    assert {1: 1, 2: 1} == served(round_)
    assert tables(round_)[1][:10] == tables(round_)[2][:10]
    assert tables(round_)[1][10:] != tables(round_)[2][10:]


def test_many_long_prompts_are_looked_for_in_several_calls_none_of_which_takes_long() -> None:
    prompt_ids = tuple(range(100, 100 + 120_000))
    planner = make_planner(
        num_blocks=32_000,
        block_tokens=16,
        max_round_tokens=200_000,
        prefill_chunk_tokens=200_000,
        prefill_slowdown_limit=1e6,
    )
    planner.add(make_stream(1, prompt_ids=prompt_ids))
    play(planner)
    later = [make_stream(number, prompt_ids=prompt_ids) for number in (2, 3, 4)]
    add(planner, *later)
    num_calls = 1
    planner.admission.admit(1, 0.2)
    while planner.admission.goes_on:
        assert 0.0 == planner.next_deadline(), "the engine comes back at once"
        planner.admission.admit(1, 0.2)
        num_calls += 1
    assert 4 < num_calls < 8  # 65,536 tokens in each
    assert [119_984] * 3 == [stream.num_cached_tokens for stream in later]
    assert planner.next_deadline() is None


@pytest.mark.parametrize(
    ("sharing", "device", "num_read"),
    [
        ("off", "kitchen", 15),
        ("off", "garage", 15),
        ("device", "kitchen", 3),
        ("device", "garage", 15),
        ("all", "garage", 3),
    ],
)
def test_prompts_are_found_by_those_whom_the_operator_names(
    sharing: PrefixSharing, device: str, num_read: int
) -> None:
    planner = make_planner(block_tokens=4, prefix_sharing=sharing)
    first = finished(planner, make_stream(1, max_output_tokens=9, device="kitchen"))
    planner.add(next_turn(first, 2, 51, device=device))
    assert {2: num_read} == served(start(planner))


def test_drafts_are_not_shared_before_they_are_committed() -> None:
    planner = make_planner(block_tokens=4)
    stream = make_stream()
    planner.add(stream)
    stream.board_is_ready = True
    play(planner)
    draft(stream, 31, 32, 33, 34)
    finish(planner, start(planner), {1: (1, 40)})
    assert 1 == planner.blocks.num_named_blocks(1)  # 5 + 1 + 1 tokens are read
    play(planner)
    assert 2 == planner.blocks.num_named_blocks(1)


def test_nobody_starts_with_what_a_failed_stream_has_read() -> None:
    planner = make_planner(block_tokens=4)
    bad = make_stream(1)
    planner.add(bad)
    play(planner)
    round_ = start(planner)
    failure = RoundOutcome((ItemOutcome(0, None, failure=ItemFailure.EXCEPTION),), 0.1, 0.0)
    planner.finish_round(round_, failure, 0.1, 0.1)
    planner.add(next_turn(bad, 2, 51))
    assert {2: 7} == served(start(planner))
    planner.abandon_round()
    planner.add(next_turn(bad, 3, 51))
    assert {3: 7} == served(start(planner))


# --- a tiny cache gives the same text as a huge one -----------------------------------------------

MODEL = ScriptedModel(24, seed=7)
BLOCK_TOKENS = 2
MAX_ROUNDS = 4000

requests = st.fixed_dictionaries(
    {
        "device": st.sampled_from(["kitchen", "garage"]),
        "prompt_length": st.integers(1, 14),
        "max_output_tokens": st.integers(1, 24),
        "is_greedy": st.booleans(),
        "starts_at": st.integers(0, 12),
    }
)


def stream_of(number: int, wish: dict[str, Any]) -> Stream:
    # Prompts start alike, so that some of them are shared.
    return make_stream(
        number,
        device=wish["device"],
        prompt_ids=tuple(range(1, wish["prompt_length"] + 1)),
        sampling=GREEDY if wish["is_greedy"] else SamplingParameters(0.9),
        seed=number,
        max_output_tokens=wish["max_output_tokens"],
        end_ids=frozenset({SCRIPTED_END_ID}),
    )


class TinyWorld:
    """Planner, target and boards that draft right and wrong tokens, round by round."""

    def __init__(self, num_blocks: int, reserved_output_tokens: int) -> None:
        self.planner = make_planner(
            num_blocks=num_blocks,
            block_tokens=BLOCK_TOKENS,
            policy=FixedPolicy(3),
            prefill_chunk_tokens=5,
            prefill_slowdown_limit=0.01,
            reserved_output_tokens=reserved_output_tokens,
        )
        self.target = ScriptedTarget(MODEL, num_blocks=num_blocks, block_tokens=BLOCK_TOKENS)
        self.cache = CacheWatch(BLOCK_TOKENS)

    def play(self, now: float) -> None:
        planner = self.planner
        oldest = next(iter(planner.streams), None)
        round_ = planner.start_round(now)
        planner.blocks.check_integrity()
        assert oldest is None or oldest in planner.streams
        if round_ is None:
            return
        for item in round_.items:
            num_named = planner.blocks.num_named_blocks(item.stream)
            assert num_named * BLOCK_TOKENS <= item.num_cached_tokens
            self.cache.write(item)
        for item in round_.items:
            stream = planner.streams[item.stream]
            known = stream.tokens(0, item.num_cached_tokens) + item.token_ids
            assert known == self.cache.read(item)
        planner.finish_round(round_, self.target.run(round_), 0.1, now + 0.1)


def texts_of(
    wishes: list[dict[str, Any]], num_blocks: int, reserved_output_tokens: int, guesses: list[int]
) -> tuple[list[list[int]], int]:
    """The output of these streams, and how often one lost its place."""
    world = TinyWorld(num_blocks, reserved_output_tokens)
    streams = [stream_of(number, wish) for number, wish in enumerate(wishes)]
    for i in range(MAX_ROUNDS):
        for stream, wish in zip(streams, wishes, strict=True):
            if wish["starts_at"] == i:
                world.planner.add(stream)
                stream.board_is_ready = True
            num_room = stream.granted_end - stream.position - len(stream.path.live)
            if stream.finish is None and num_room > 0:
                draft(stream, guesses[(i + stream.number) % len(guesses)], now=float(i))
        world.play(float(i))
        if all(stream.finish for stream in streams):
            break
    assert all(stream.finish for stream in streams), "a stream never ended"
    assert num_blocks == world.planner.blocks.num_free_blocks
    return [stream.output_ids for stream in streams], world.planner.admission.num_preemptions


@given(
    wishes=st.lists(requests, min_size=1, max_size=6),
    reserved_output_tokens=st.integers(1, 8),
    spare_blocks=st.integers(0, 12),
    guesses=st.lists(st.integers(1, 23), min_size=1, max_size=8),
)
@settings(max_examples=60, deadline=None)
def test_whoever_loses_his_place_the_text_is_the_same(
    wishes: list[dict[str, Any]],
    reserved_output_tokens: int,
    spare_blocks: int,
    guesses: list[int],
) -> None:
    largest = max(wish["prompt_length"] + wish["max_output_tokens"] for wish in wishes)
    tiny, _ = texts_of(
        wishes, -(-largest // BLOCK_TOKENS) + spare_blocks, reserved_output_tokens, guesses
    )
    huge, num_preemptions = texts_of(wishes, 500, 1000, guesses)
    assert (huge, 0) == (tiny, num_preemptions)


def test_places_are_lost_again_and_again_in_a_cache_for_one() -> None:
    wishes = [
        {
            "device": "kitchen",
            "prompt_length": 3,
            "max_output_tokens": 24,
            "is_greedy": False,
            "starts_at": 0,
        }
    ] * 6
    texts, num_preemptions = texts_of(wishes, 14, 2, [5])
    assert 6 == len(texts)
    assert num_preemptions > 5


@pytest.mark.parametrize("num_shared", [3, 255, 256, 257, 600])
def test_a_long_prompt_begins_with_all_that_is_there_of_it(num_shared: int) -> None:
    """Names of blocks are made a few hundred at a time, as long as they are found."""
    planner = make_planner(num_blocks=2000, prefill_chunk_tokens=5000, max_round_tokens=6000)
    first = make_stream(1, prompt_ids=(11,) * (4 * num_shared + 1), max_output_tokens=1)
    add(planner, first)
    play(planner)
    assert first.finish is not None
    second = make_stream(2, prompt_ids=(11,) * (4 * num_shared) + (12,) * 5, max_output_tokens=4)
    add(planner, second)
    start(planner)
    assert 4 * num_shared == second.cached_prefix_tokens
