"""What is read of streams once for a round holds for the plan that is made while it runs."""

from __future__ import annotations

import random

import numpy as np

from tests.support.ends.planning import make_stream
from verifier.scheduling.gathered import Gathered, Reading, gather
from verifier.streams.stream import Stream


def streams_of(count: int) -> list[Stream]:
    draw, made = random.Random(count), []
    for number in range(count):
        draft_length = draw.choice((None, 3))
        mode = draw.choice(("coupled", "rejection"))
        stream = make_stream(number, device=f"b{number}", draft_length=draft_length, mode=mode)
        stream.device_estimates.observe_counts(stream.estimates, draw.randrange(5), 1)
        stream.estimates.speed.observe_drafting(1, draw.random())
        stream.estimates.speed.observe_round_trip(draw.random())
        made.append(stream)
    return made


def is_same(one: Gathered, other: Gathered) -> bool:
    return all(np.array_equal(np.array(a), np.array(b)) for a, b in zip(one, other, strict=True))


def test_what_was_read_is_what_is_known_in_any_order_with_goodputs_of_now() -> None:
    for is_shuffled in (False, True):
        streams, reading = streams_of(7), Reading()
        before = reading.gather(list(streams))
        assert is_same(before, gather(streams))
        for stream in streams:
            stream.estimates.goodput.observe_round(stream.number, 0.1)
        if is_shuffled:
            random.Random(1).shuffle(streams)
        assert is_same(gather(streams), reading.gather_again(streams))


def test_other_streams_are_read_anew() -> None:
    streams, reading = streams_of(4), Reading()
    assert is_same(gather(streams), reading.gather_again(streams))
    reading.gather(streams)
    others = [*streams[:3], *streams_of(1)]
    for planned in (streams[:2], others, []):
        assert is_same(gather(planned), reading.gather_again(planned))


def test_nothing_that_was_read_holds_in_the_next_round() -> None:
    streams, reading = streams_of(3), Reading()
    reading.gather(streams)
    reading.forget()
    streams[0].estimates.speed.observe_round_trip(9.0)
    assert is_same(gather(streams), reading.gather_again(streams))
