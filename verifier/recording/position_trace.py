"""Which draft tokens were right, for every position of the texts, from what was tested. Pure.

Only some positions are tested: the target writes behind each rejection, and where no draft came in
time. A simulated board drafts them all, so the others are drawn from a model of runs. That is still
too good where acceptance comes in long runs: a draft that was late is gone on with only if it was
right, which the verifier does not see.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random

from verifier.recording.lines import StreamPart
from verifier.recording.runs_model import Bit, drawn_states, fit_runs


def position_bits(parts: Iterable[StreamPart]) -> list[Bit]:
    """Of one stream, position by position, from its parts in order."""
    bits: list[Bit] = []
    for part in parts:
        differs = part.num_accepted < part.num_tested
        bits += [1] * part.num_accepted
        bits += [0, *[None] * (part.num_own - 1)] if differs else [None] * part.num_own
    return bits


def completed(streams: Sequence[Sequence[Bit]], random: Random) -> tuple[int, ...]:
    """All positions of all streams, one after the other; what was tested stays as it was."""
    model = fit_runs(streams)
    trace: list[int] = []
    for bits in streams:
        for bit, state in zip(bits, drawn_states(bits, model, random), strict=True):
            drawn = int(random.random() < model.rates[state])
            trace.append(drawn if bit is None else bit)
    return tuple(trace)
