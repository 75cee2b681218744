"""What planning reads of streams, read once: numbers of each, in arrays.

A round asks for the same few numbers of every stream several times over; going through a thousand
objects is dearer than the arithmetic. This module must never decide anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from shared.speculation.goodput import FloatArray
from verifier.policies import MEMORY_LENGTH
from verifier.policies.draft_policy import BoolArray
from verifier.streams.estimates import NO_MEMORY
from verifier.streams.stream import Stream

_NUM_FIGURES = 10
_GOODPUT_COLUMNS = slice(2, 4)  # of `_figures`


class Gathered(NamedTuple):
    """Numbers of some streams, in their order; all arrays are [num_streams]."""

    devices: list[str]
    acceptance_rates: FloatArray
    num_observed: FloatArray  # positions that the rate was learnt from
    goodputs: FloatArray  # tokens per round of the stream's device
    steady_goodputs: FloatArray  # the same, smoothed for longer
    draft_token_seconds: FloatArray  # 0: not known yet
    round_trip_seconds: FloatArray  # 0: not known yet
    punctualities: FloatArray  # part of the drafts that came in time; 0: no round trip is known
    best_chances: FloatArray  # 0: the board does not say which tokens are sure
    waits: BoolArray  # in `rejection`
    has_free_length: BoolArray  # no request fixes the length of its drafts
    memories: FloatArray  # [num_streams, MEMORY_LENGTH]: what the policy keeps with each


Read = Callable[[Sequence[Stream]], Gathered]
"""How streams are gathered."""


def gather(streams: Sequence[Stream]) -> Gathered:
    """What is known of these streams now."""
    return _gathered(streams, _numbers(_figures, streams, _NUM_FIGURES))


class Reading:
    """What is read of a round's streams when it starts, for the plan that is made while it runs.

    Nothing but goodputs is learned between the two: the rest need not be read again.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Another round starts, or this one is over: everything may have changed."""
        self._streams: Sequence[Stream] = ()
        self._numbers = np.empty((0, _NUM_FIGURES))

    def gather(self, streams: Sequence[Stream]) -> Gathered:
        """`gather`, for `gather_again`."""
        self._streams = streams
        self._numbers = _numbers(_figures, streams, _NUM_FIGURES)
        return _gathered(streams, self._numbers)

    def gather_again(self, streams: Sequence[Stream]) -> Gathered:
        """What is known of the same streams in any order, or of others."""
        numbers = self._numbers
        if len(streams) != len(self._streams) or not streams:
            return gather(streams)
        if streams != self._streams:
            places = {stream: place for place, stream in enumerate(self._streams)}
            rows = [places.get(stream, -1) for stream in streams]
            if min(rows) < 0:
                return gather(streams)
            numbers = numbers[rows]
        numbers[:, _GOODPUT_COLUMNS] = _numbers(_goodputs, streams, 2)
        return _gathered(streams, numbers)


def _numbers(
    figures_of: Callable[[Stream], tuple[float, ...]], streams: Sequence[Stream], count: int
) -> FloatArray:
    """So many figures of each [num_streams, count]."""
    # Numbers in a row: numpy takes 1.5 times as long for a list of tuples.
    figures = chain.from_iterable([figures_of(stream) for stream in streams])
    numbers = np.fromiter(figures, np.float64, count=count * len(streams))
    return numbers.reshape(len(streams), count)


def _gathered(streams: Sequence[Stream], numbers: FloatArray) -> Gathered:
    columns = numbers.T
    rates, observed, goodputs, steady, seconds, round_trips, punctual, chances = columns[:8]
    return Gathered(
        devices=[stream.device for stream in streams],
        acceptance_rates=rates,
        num_observed=observed,
        goodputs=goodputs,
        steady_goodputs=steady,
        draft_token_seconds=seconds,
        round_trip_seconds=round_trips,
        punctualities=punctual,
        best_chances=chances,
        waits=columns[8] > 0.0,
        has_free_length=columns[9] > 0.0,
        memories=_memories(streams),
    )


def _memories(streams: Sequence[Stream]) -> FloatArray:
    """Few policies keep any."""
    memories = [stream.estimates.policy_memory for stream in streams]
    if all(memory is NO_MEMORY for memory in memories):
        return np.zeros((len(streams), MEMORY_LENGTH))
    return np.array(memories)


def _goodputs(stream: Stream) -> tuple[float, ...]:
    goodput = stream.estimates.goodput
    return goodput.tokens_per_round, goodput.steady_tokens_per_round


def _figures(stream: Stream) -> tuple[float, ...]:
    own, request = stream.estimates, stream.request
    acceptance, goodput, speed = own.acceptance, own.goodput, own.speed
    round_trip_seconds = speed.round_trip_seconds
    return (
        acceptance.rate,
        acceptance.num_observed,
        goodput.tokens_per_round,
        goodput.steady_tokens_per_round,
        speed.draft_token_seconds or 0.0,
        round_trip_seconds or 0.0,
        0.0 if round_trip_seconds is None else speed.punctuality,
        own.chances.best_chance,
        request.mode == "rejection",
        request.draft_length is None,
    )
