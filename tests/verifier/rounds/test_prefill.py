"""Prompts may lengthen the round of those who wait for their next token only so much."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.protocol.draft_path import DraftPath, DraftToken
from shared.protocol.logprobs import packed_bytes
from tests.support.ends.planning import (
    add,
    finish,
    make_curve,
    make_planner,
    make_stream,
    play,
    served,
    start,
)
from verifier.cost_curve.curve import CostCurve, CostGrid
from verifier.cost_curve.look_back import Chunk, LookBackGrid
from verifier.rounds.joint_limit import DraftRoom
from verifier.rounds.prefill import (
    MOST_SCORED_TOKENS,
    PrefillLimits,
    PromptRoom,
    prompt_room,
    prompt_shares,
)
from verifier.streams.stream import Stream
from verifier.streams.stream_logprobs import StreamLogprobs
from verifier.target.round import ItemOutcome, RoundOutcome


def limits(
    *,
    chunk_tokens: int = 128,
    least_tokens: int = 4,
    slowdown_limit: float = 0.5,
    device_slowdown_limit: float | None = None,
) -> PrefillLimits:
    return PrefillLimits(
        chunk_tokens=chunk_tokens,
        least_tokens=least_tokens,
        slowdown_limit=slowdown_limit,
        device_slowdown_limit=device_slowdown_limit or slowdown_limit,
    )


def prompt_tokens(
    streams: list[Stream], num_drafts: int, curve: CostCurve, bounds: PrefillLimits
) -> int:
    """Where a device may do all that all may together."""
    room = prompt_room(streams, DraftRoom(num_drafts), curve, bounds)
    assert 0 == room.num_more_tokens
    return room.num_tokens


stream_numbers = itertools.count(1)


def prompt(num_tokens: int = 1000, num_cached: int = 0, device: str = "board") -> Stream:
    stream = make_stream(next(stream_numbers), device=device, prompt_ids=(11,) * num_tokens)
    stream.num_cached_tokens = num_cached
    return stream


def decoding(num_live: int = 0, num_tokens: int = 16, device: str = "board") -> Stream:
    stream = prompt(num_tokens, num_tokens - 1, device)
    stream.path = DraftPath(end=num_live, live=(DraftToken(31),) * num_live)
    return stream


def test_alone_a_prompt_is_read_as_fast_as_the_chunk_allows() -> None:
    assert 128 == prompt_tokens([prompt(), prompt()], 64, make_curve(), limits())
    assert 128 == prompt_tokens([], 64, make_curve(), limits())


def test_without_a_prompt_there_is_nothing_to_bound() -> None:
    assert 128 == prompt_tokens([decoding()], 64, make_curve(), limits(slowdown_limit=0.0))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 50),  # 0.101 s for one token; 0.0505 s more are 50 tokens
        ({"slowdown_limit": 1.0}, 101),
        ({"slowdown_limit": 9.0}, 128),
        ({"slowdown_limit": 0.0}, 4),
        ({"slowdown_limit": 0.0, "least_tokens": 16}, 16),
        ({"slowdown_limit": 0.0, "least_tokens": 16, "chunk_tokens": 7}, 7),
        ({"chunk_tokens": 20}, 20),
    ],
)
def test_a_round_with_a_prompt_takes_so_much_longer(
    changes: dict[str, float], expected: int
) -> None:
    bounds = limits(**changes)  # type: ignore[arg-type]
    assert expected == prompt_tokens([prompt(), decoding()], 64, make_curve(), bounds)


def test_the_round_without_a_prompt_has_the_drafts_of_those_who_wait() -> None:
    streams = [prompt(), decoding(num_live=19), decoding(num_live=20)]
    bounds = limits(slowdown_limit=1.0, chunk_tokens=1000)
    assert [141, 112, 102] == [
        prompt_tokens(streams, num_drafts, make_curve(), bounds) for num_drafts in (64, 10, 0)
    ]


def test_what_a_prompt_has_read_already_makes_its_next_part_dearer() -> None:
    curve = CostCurve(CostGrid((0, 100), (0, 1000), ((0.1, 0.2), (0.2, 0.3)), None))
    bounds = limits(slowdown_limit=1.0)
    one = decoding(num_tokens=10)  # 0.102 s
    new, long = prompt(), prompt(num_cached=400)
    # Each token more costs 1.1 ms; the 400 tokens before it 40 ms.
    assert 92 == prompt_tokens([new, one], 64, curve, bounds)
    assert 56 == prompt_tokens([long, one], 64, curve, bounds)
    # The first prompt ends after 30 tokens; then the second brings its context in.
    assert 56 == prompt_tokens([prompt(30), long, one], 64, curve, bounds)
    assert 40 == prompt_tokens([prompt(40), prompt(1000, 600), one], 64, curve, bounds)


def test_a_prompt_is_read_in_ever_smaller_parts_the_further_it_is_read() -> None:
    """A round may take 10 ms more: as many pairs of tokens as it takes 1 ns each, all in all."""
    curve = CostCurve(
        CostGrid(
            (0, 100),
            (0,),
            ((0.01, 0.01),),
            LookBackGrid((16, 64), (0, 1000), ((0.0, 0.0), (16e-6, 64e-6))),
        )
    )
    sizes = {
        depth: prompt_tokens(
            [prompt(200_000, depth), decoding()],
            64,
            curve,
            limits(chunk_tokens=512, least_tokens=16, slowdown_limit=1.0),
        )
        for depth in (0, 10_000, 20_000, 40_000, 80_000, 150_000)
    }
    assert {0: 512, 10_000: 512, 20_000: 496, 40_000: 240, 80_000: 112, 150_000: 64} == sizes
    alone = [prompt(200_000, 150_000)]
    assert 512 == prompt_tokens(alone, 64, curve, limits(chunk_tokens=512))
    far = [prompt(2_000_000, 1_000_000), decoding()]
    assert 16 == prompt_tokens(far, 64, curve, limits(least_tokens=16))  # it always gets on


curves = st.builds(
    lambda first, steps, context_step, look_back: CostCurve(
        CostGrid(
            (1, 4, 16, 64, 256),
            (0, 500),
            tuple(
                tuple(first + context * context_step + sum(steps[:i]) for i in range(5))
                for context in (0, 1)
            ),
            LookBackGrid(
                (16, 64),
                (0, 200),
                ((0.0, 0.0), (look_back, 4 * look_back)),
            ),
        )
    ),
    first=st.floats(0.001, 0.1),
    steps=st.lists(st.floats(0.0, 0.1), min_size=4, max_size=4),
    context_step=st.floats(0.0, 0.1),
    look_back=st.floats(0.0, 0.02),
)


@given(
    curve=curves,
    prompts=st.lists(
        st.tuples(st.integers(2, 300), st.integers(0, 300), st.sampled_from("ab")),
        min_size=1,
        max_size=3,
    ),
    lives=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    slowdown_limit=st.floats(0.0, 3.0),
    chunk_tokens=st.integers(1, 200),
)
def test_it_is_the_largest_number_within_the_limit(
    curve: CostCurve,
    prompts: list[tuple[int, int, str]],
    lives: list[int],
    slowdown_limit: float,
    chunk_tokens: int,
) -> None:
    reading = [prompt(pending + cached, cached, device) for pending, cached, device in prompts]
    others = [decoding(num_live) for num_live in lives]
    bounds = limits(chunk_tokens=chunk_tokens, slowdown_limit=slowdown_limit)
    num_read = prompt_tokens([*reading, *others], 8, curve, bounds)

    def seconds(num_read: int) -> float:
        num_tokens = len(others) + min(sum(lives), 8) + num_read
        shares = prompt_shares(reading, PromptRoom(num_read))
        chunks = [Chunk(shares[s.number], s.num_cached_tokens) for s in reading if shares[s.number]]
        context_tokens = 16 * len(others) + sum(map(sum, chunks))
        return curve.round_seconds(num_tokens, context_tokens, chunks)

    longest = (1 + slowdown_limit) * seconds(0)
    least = min(4, chunk_tokens)
    assert least <= num_read <= chunk_tokens
    assert num_read == least or seconds(num_read) <= longest
    assert num_read == chunk_tokens or seconds(num_read + 1) > longest


# --- shares of the devices ------------------------------------------------------------------------


def prompts(*lengths: tuple[str, int]) -> list[Stream]:
    return [
        make_stream(number, device=device, prompt_ids=(7,) * length)
        for number, (device, length) in enumerate(lengths, start=1)
    ]


@pytest.mark.parametrize(
    ("lengths", "num_tokens", "expected"),
    [
        ([("a", 100), ("a", 100), ("b", 100)], 60, [30, 0, 30]),
        ([("a", 20), ("a", 100), ("b", 100)], 60, [20, 10, 30]),
        ([("a", 100), ("a", 100), ("b", 10)], 60, [50, 0, 10]),
        ([("a", 10), ("b", 10)], 60, [10, 10]),
        ([("a", 100), ("b", 90), ("c", 80)], 2, [1, 1, 0]),
        ([("a", 100)], 60, [60]),
    ],
)
def test_every_device_reads_an_equal_part_of_the_prompts(
    lengths: list[tuple[str, int]], num_tokens: int, expected: list[int]
) -> None:
    assert expected == list(prompt_shares(prompts(*lengths), PromptRoom(num_tokens)).values())


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(2, 60)), min_size=1, max_size=8),
    st.integers(0, 300),
)
def test_where_a_round_reads_more_no_prompt_reads_less(
    lengths: list[tuple[str, int]], num_tokens: int
) -> None:
    """So that a round of more tokens takes no less, which is what the search rests on."""
    fewer, more = (
        prompt_shares(prompts(*lengths), PromptRoom(n)) for n in (num_tokens, num_tokens + 1)
    )
    assert all(fewer[number] <= more[number] for number in fewer)


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(2, 60)), min_size=1, max_size=8),
    st.integers(0, 100),
    st.integers(0, 100),
    st.frozensets(st.sampled_from("abcd")),
)
def test_what_more_there_is_goes_to_the_favoured_devices_alone(
    lengths: list[tuple[str, int]], num_tokens: int, num_more_tokens: int, favoured: frozenset[str]
) -> None:
    of_devices = favoured & {device for device, _ in lengths}
    plain, more, most = (
        prompt_shares(prompts(*lengths), PromptRoom(num_tokens, number, of_devices))
        for number in (0, num_more_tokens, num_more_tokens + 1)
    )
    for number, (device, _) in enumerate(lengths, start=1):
        assert more[number] == plain[number] or device in of_devices
        assert plain[number] <= more[number] <= most[number]
    unread = sum(length for device, length in lengths if device in of_devices)
    read_plainly = sum(plain[i] for i, (d, _) in enumerate(lengths, 1) if d in of_devices)
    num_more_read = sum(more.values()) - sum(plain.values())
    assert min(num_more_tokens, unread - read_plainly) == num_more_read


# --- by how much the prompts of a device may lengthen the rounds of others -----------------------

ALL = frozenset(("one", "two", "three", "four"))
# A round of one token takes 0.101 s, and 10.1 more lengthen it by 10 %.
NO_DRAFTS, LIVE_DRAFTS = DraftRoom(0), DraftRoom(64)
SHARED = limits(slowdown_limit=0.5, device_slowdown_limit=0.1)


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        (["one"], 10),
        (["one", "one", "one"], 10),
        (["one", "two"], 10),  # two that conspire have no more than one
        (["one", "two", "three"], 20),
        (["one", "two", "three", "four"], 30),
    ],
)
def test_the_more_devices_have_prompts_the_more_they_lengthen_the_rounds_of_others(
    devices: list[str], expected: int
) -> None:
    streams = [decoding(device="honest"), *(prompt(device=device) for device in devices)]
    room = prompt_room(streams, LIVE_DRAFTS, make_curve(), SHARED, without_turn=ALL)
    assert PromptRoom(expected) == room


def test_all_together_lengthen_a_round_by_the_whole_limit_at_most() -> None:
    streams = [decoding(device="honest"), *(prompt(device=f"board-{i}") for i in range(40))]
    room = prompt_room(
        streams, LIVE_DRAFTS, make_curve(), SHARED, without_turn=[f"board-{i}" for i in range(40)]
    )
    assert PromptRoom(50) == room


def test_a_device_whose_turn_it_is_has_a_short_prompt_read_at_once_and_no_other_has_more() -> None:
    one, two = prompt(20, device="one"), prompt(device="two")
    streams = [decoding(device="honest"), one, two]
    room = prompt_room(streams, LIVE_DRAFTS, make_curve(), SHARED, without_turn={"two"})
    assert PromptRoom(10, 15, frozenset({"one"}), frozenset({"one"})) == room
    assert {one.number: 20, two.number: 5} == prompt_shares(streams, room)


def test_a_turn_goes_no_further_than_the_limit_and_the_chunk() -> None:
    streams = [decoding(device="honest"), prompt(device="one")]
    turn = frozenset({"one"})
    assert PromptRoom(10, 40, turn, turn) == prompt_room(streams, LIVE_DRAFTS, make_curve(), SHARED)
    bounds = limits(chunk_tokens=30, slowdown_limit=0.5, device_slowdown_limit=0.1)
    assert PromptRoom(10, 20, turn, turn) == prompt_room(streams, LIVE_DRAFTS, make_curve(), bounds)


def test_a_prompt_that_needs_no_turn_takes_none() -> None:
    streams = [decoding(device="honest"), prompt(10, device="one")]
    assert PromptRoom(10) == prompt_room(streams, LIVE_DRAFTS, make_curve(), SHARED)


def test_what_a_device_does_to_its_own_streams_alone_takes_no_turn() -> None:
    streams = [decoding(device="one"), prompt(device="one")]
    room = prompt_room(streams, LIVE_DRAFTS, make_curve(), SHARED, without_turn=ALL)
    assert PromptRoom(10, 40, frozenset({"one"})) == room


def test_a_device_that_alone_waits_for_tokens_is_delayed_by_another_no_more_than_others_are() -> (
    None
):
    one, two = prompt(device="one"), prompt(device="two")
    streams = [decoding(device="one"), one, two]
    room = prompt_room(streams, LIVE_DRAFTS, make_curve(), SHARED, without_turn=ALL)
    assert {one.number: 5 + 40, two.number: 5} == prompt_shares(streams, room)


def test_of_400_rounds_one_is_longer_for_the_prompts_of_a_device() -> None:
    planner = make_planner(
        num_blocks=40_000, prefill_chunk_tokens=200, device_prefill_slowdown_limit=0.1
    )
    add(planner, make_stream(1, device="honest", max_output_tokens=5000))
    play(planner)
    planner.add(make_stream(2, device="greedy", prompt_ids=(7,) * 20_000))
    sizes = []
    for _ in range(1000):
        round_ = start(planner)
        sizes.append(served(round_)[2])
        finish(planner, round_)
    assert [0, 400, 800] == [i for i, size in enumerate(sizes) if size > 10]
    # The curve learns that rounds are shorter than it thought, so sizes move a little.
    assert (10, 101) == pytest.approx((min(sizes), max(sizes)), rel=0.12)


def test_the_prompts_of_one_device_keep_no_other_waiting() -> None:
    planner = make_planner(num_blocks=2000, prefill_chunk_tokens=16)
    add(planner, *prompts(*[("flood", 200)] * 8))
    play(planner)
    planner.add(make_stream(99, device="modest", prompt_ids=(7,) * 8))
    assert {99: 8} == {
        number: count for number, count in served(start(planner)).items() if number == 99
    }


# --- prompts that are scored ----------------------------------------------------------------------


def scored_prompt(num_tokens: int = 1000, device: str = "board") -> Stream:
    stream = make_stream(next(stream_numbers), device=device, prompt_ids=(11,) * num_tokens)
    stream.request = replace(stream.request, num_prompt_logprobs=2)
    stream.logprobs = StreamLogprobs(None, 2)
    return stream


def test_a_round_scores_only_so_many_tokens_however_many_prompts_there_are() -> None:
    plain = prompt(100, device="two")
    streams = [scored_prompt(), scored_prompt(), scored_prompt(device="three"), plain]
    shares = prompt_shares(streams, PromptRoom(1000))
    told = [shares[stream.number] for stream in streams]
    half = MOST_SCORED_TOKENS // 2
    assert [half, 0, half, 100] == told


def test_what_scoring_takes_leaves_less_room_for_prompts() -> None:
    other = prompt(10, num_cached=9, device="two")
    curve = make_curve()
    cheap = prompt_room([other, scored_prompt()], NO_DRAFTS, curve, limits(least_tokens=1))
    assert cheap == prompt_room([other, prompt()], NO_DRAFTS, curve, limits(least_tokens=1))
    seconds = curve.round_seconds(1, 10) / 100
    dear = prompt_room(
        [other, scored_prompt()],
        NO_DRAFTS,
        curve,
        limits(least_tokens=1),
        scored_token_seconds=seconds,
    )
    assert 0 < dear.num_tokens < min(cheap.num_tokens, 51)
    plain = prompt_room(
        [other, prompt()], NO_DRAFTS, curve, limits(least_tokens=1), scored_token_seconds=seconds
    )
    assert cheap == plain


def test_the_price_of_scoring_is_what_rounds_take_and_no_fault_of_the_curve() -> None:
    planner = make_planner()
    stream = scored_prompt(40)
    planner.add(stream)
    round_ = planner.start_round(0.0)
    assert round_ is not None
    assert 39 == round_.num_prompt_rows
    before = planner.curve.round_seconds(round_.num_tokens, round_.context_tokens)
    answer = ItemOutcome(0, 20, prompt_logprobs=bytes(39 * packed_bytes(2)))
    outcome = RoundOutcome((answer,), before, 0.0, scoring_seconds=39.0)
    planner.finish_round(round_, outcome, before + 39.0, 1.0)
    planner.follow_up(1.0)
    assert pytest.approx(before, rel=0.05) == planner.curve.round_seconds(
        round_.num_tokens, round_.context_tokens
    )
    assert answer.prompt_logprobs == stream.logprobs.prompt
    add(planner, prompt(20, device="two"))
    play(planner, 2.0)
    planner.add(scored_prompt(200, device="three"))
    later = planner.start_round(3.0)
    assert later is not None
    assert later.num_prompt_rows <= 16  # a second each is dear
