"""Which draft tokens were right, for every position of the texts, from what was tested. Pure.

Only some positions are tested: the target writes behind each rejection, and where no draft came in
time. A simulated board drafts them all, so the others are drawn: behind a token that is right as
tested neighbours were, else as the first one behind a gap was, which is where a text is hard.
Without that three boards on two cores came out 12 to 22 % too fast, with it 9 to 16 %.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random

from verifier.recording.lines import StreamPart

Bit = int | None  # 1: right; None: was not tested

# Fewer cases than this say nothing of their own.
_LEAST_CASES = 20


def position_bits(parts: Iterable[StreamPart]) -> list[Bit]:
    """Of one stream, position by position, from its parts in order."""
    bits: list[Bit] = []
    for part in parts:
        differs = part.num_accepted < part.num_tested
        bits += [1] * part.num_accepted
        bits += [0, *[None] * (part.num_own - 1)] if differs else [None] * part.num_own
    return bits


def completed(streams: Sequence[Sequence[Bit]], random: Random) -> tuple[int, ...]:
    """All positions of all streams, one after the other."""
    behind_right, behind_gap = _rates(streams)
    trace: list[int] = []
    for bits in streams:
        before = 0
        for bit in bits:
            rate = behind_right if before else behind_gap
            before = int(random.random() < rate) if bit is None else bit
            trace.append(before)
    return tuple(trace)


def _rates(streams: Sequence[Sequence[Bit]]) -> tuple[float, float]:
    """How often a token is right behind one that is, and behind a gap."""
    known = [bit for bits in streams for bit in bits if bit is not None]
    pairs = [pair for bits in streams for pair in zip([None, *bits], bits, strict=False)]
    behind_right = [bit for before, bit in pairs if before == 1 and bit is not None]
    behind_gap = [bit for before, bit in pairs if before is None and bit is not None]
    overall = sum(known) / len(known) if known else 0.0

    def rate(cases: Sequence[int]) -> float:
        return sum(cases) / len(cases) if len(cases) >= _LEAST_CASES else overall

    return rate(behind_right), rate(behind_gap)
