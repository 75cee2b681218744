"""Streams whose rows take long to sample take turns; other devices' streams are in every round."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.ends.planning import add, make_curve, make_planner, make_stream, served, start
from verifier.configured_rounds import round_settings
from verifier.rounds.dear_rows import those_with_a_turn, with_turns_and_prices
from verifier.rounds.settings import RoundsSection
from verifier.streams.stream import Stream
from verifier.target.round import ItemOutcome, RoundOutcome

NUM_DEAR, NUM_ROUNDS = 8, 40
CHUNK_TOKENS = 4
TOKEN = 0.004  # seconds


def stream_of(number: int, device: str, row_seconds: float) -> Stream:
    stream = make_stream(number, device=device, max_output_tokens=100)
    stream.num_cached_tokens = 4  # its prompt is read
    stream.estimates.row_seconds = row_seconds
    return stream


def numbers(streams: list[Stream]) -> list[int]:
    return [stream.number for stream in streams]


def test_of_each_device_as_many_have_a_turn_as_the_time_pays_for() -> None:
    streams = [stream_of(i, "bad", 0.003) for i in range(4)]
    streams += [stream_of(10 + i, "worse", 0.02) for i in range(3)]
    streams += [stream_of(20 + i, "good", 0.001) for i in range(3)]
    # 2 and 19 ms beyond the cheapest; one of each device at least.
    assert [0, 1, 10, 20, 21, 22] == numbers(those_with_a_turn(streams, 0.005, CHUNK_TOKENS, TOKEN))


def test_a_row_that_takes_longer_is_paid_for_by_others_of_its_device() -> None:
    dear, plain = stream_of(1, "bad", 0.011), [stream_of(i, "bad", 0.001) for i in range(2, 8)]
    good = [stream_of(i, "good", 0.001) for i in range(20, 23)]
    # 10 ms are three tokens of 4 ms.
    chosen = those_with_a_turn([dear, *plain, *good], 0.005, CHUNK_TOKENS, TOKEN)
    assert [1, 5, 6, 7, 20, 21, 22] == numbers(chosen)
    chosen = those_with_a_turn([dear, *plain[:2], *good], 0.005, CHUNK_TOKENS, TOKEN)
    assert [1, 20, 21, 22] == numbers(chosen)


def test_a_row_that_takes_longer_waits_until_its_stream_has_waited_longest() -> None:
    plain, dear = stream_of(1, "bad", 0.001), stream_of(2, "bad", 0.011)
    streams = [plain, dear, stream_of(3, "bad", 0.001), stream_of(20, "good", 0.001)]
    assert [1, 3, 20] == numbers(those_with_a_turn(streams, 0.005, CHUNK_TOKENS, TOKEN))


def test_a_device_alone_and_devices_alike_are_all_in_the_round() -> None:
    alone = [stream_of(i, "bad", 0.003 * i) for i in range(5)]
    alike = [stream_of(i, f"board-{i % 2}", 0.003) for i in range(5)]
    assert alone == those_with_a_turn(alone, 0.0, CHUNK_TOKENS, TOKEN)
    assert alike == those_with_a_turn(alike, 0.0, CHUNK_TOKENS, TOKEN)


def test_a_long_prompt_takes_turns_with_a_row_that_takes_longer() -> None:
    good, dear, long = (
        stream_of(5, "good", 0.0),
        stream_of(1, "bad", 0.02),
        stream_of(3, "bad", 0.02),
    )
    long.num_cached_tokens = 0  # of five tokens
    assert [1, 5] == numbers(those_with_a_turn([dear, long, good], 0.0, CHUNK_TOKENS, TOKEN))
    assert [3, 5] == numbers(those_with_a_turn([long, dear, good], 0.0, CHUNK_TOKENS, TOKEN))
    # Beside a row that the time pays for it is read in the same round.
    assert [1, 3, 5] == numbers(those_with_a_turn([dear, long, good], 0.02, CHUNK_TOKENS, TOKEN))


def test_the_end_of_a_prompt_has_a_row_as_any_stream() -> None:
    ending, good = stream_of(4, "bad", 0.02), stream_of(5, "good", 0.0)
    ending.num_cached_tokens = 1  # of five tokens
    streams = [stream_of(1, "bad", 0.02), ending, good]
    assert [1, 5] == numbers(those_with_a_turn(streams, 0.0, CHUNK_TOKENS, TOKEN))


@pytest.mark.parametrize(("slowdown_limit", "num_turns"), [(0.05, 2), (10.0, 4)])
def test_where_drafts_may_lengthen_rounds_by_more_than_two_devices_rows_may_too(
    slowdown_limit: float, num_turns: int
) -> None:
    streams = [stream_of(number, "dear", 0.003) for number in range(3)]
    streams.append(stream_of(9, "good", 0.0))
    settings = round_settings(RoundsSection(slowdown_limit=slowdown_limit))
    assert num_turns == len(with_turns_and_prices(streams, make_curve(), settings, 0.001))


def test_dear_streams_take_turns_and_all_get_on() -> None:
    planner = make_planner(num_blocks=1000)
    streams = [make_stream(i, device="bad", max_output_tokens=100) for i in range(NUM_DEAR)]
    streams.append(make_stream(99, device="good", max_output_tokens=100))
    add(planner, *streams)
    turns: Counter[int] = Counter()
    for number in range(NUM_ROUNDS + 1):
        round_ = start(planner, float(number))
        seconds = tuple(0.0 if item.stream == 99 else 0.003 for item in round_.items)
        items = tuple(ItemOutcome(0, 20) for _ in round_.items)
        outcome = RoundOutcome(items, 0.08, 0.01, row_seconds=seconds)
        planner.finish_round(round_, outcome, 0.1, number + 0.1)
        if number:
            turns.update(served(round_))
    # Rounds take 0.1 s, so 5 ms pay for one row of 3 ms.
    assert NUM_ROUNDS == turns.pop(99)
    assert dict.fromkeys(range(NUM_DEAR), NUM_ROUNDS // NUM_DEAR) == turns
