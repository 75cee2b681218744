"""Which draft tokens were right, for every position of the texts, from what met the target. Pure.

Only some positions did: the target writes behind each rejection, and a board that is late may have
drafted no more than it could still send. A simulated board drafts them all, so the others are drawn
from a model of runs, and how sure the board was there from what it said where the model was in the
same state and the token as right or wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import NamedTuple

from shared.speculation.confidence import UNKNOWN_CONFIDENCE
from verifier.recording.lines import StreamPart
from verifier.recording.runs_model import Bit, drawn_states, fit_runs


class Marks(NamedTuple):
    """What is known of each position of one text."""

    bits: list[Bit]
    confidences: list[int]  # 0: not known


class Trace(NamedTuple):
    """All positions of all texts, one after the other."""

    bits: tuple[int, ...]
    confidences: bytes  # 0: the board never told


def position_marks(parts: Iterable[StreamPart]) -> Marks:
    """Of one stream, position by position, from its parts in order."""
    marks = Marks([], [])
    for part in parts:
        start = len(marks.bits)
        for late in part.late:
            _mark(marks, start - late.back, late.num_right, late.confidences)
        num_tokens = part.num_accepted + part.num_own
        marks.bits.extend([None] * num_tokens)
        marks.confidences.extend([UNKNOWN_CONFIDENCE] * num_tokens)
        if part.confidences:
            _mark(marks, start, part.num_right, part.confidences)
        else:  # of an older recording
            _mark(
                marks, start, part.num_accepted, bytes(min(part.num_accepted + 1, part.num_tested))
            )
    return marks


def completed(streams: Sequence[Marks], random: Random) -> Trace:
    """What is known stays as it was, and all else is drawn."""
    model = fit_runs([marks.bits for marks in streams])
    bits: list[int] = []
    states: list[int] = []
    for marks in streams:
        for bit, state in zip(marks.bits, drawn_states(marks.bits, model, random), strict=True):
            drawn = int(random.random() < model.rates[state])
            bits.append(drawn if bit is None else bit)
            states.append(state)
    known = [confidence for marks in streams for confidence in marks.confidences]
    return Trace(tuple(bits), _completed_confidences(known, bits, states, random))


def _completed_confidences(
    known: Sequence[int], bits: Sequence[int], states: Sequence[int], random: Random
) -> bytes:
    """Of each position; where the model never was in such a state, as of any that was told."""
    said: dict[tuple[int, int], list[int]] = {}
    for confidence, of_token in zip(known, zip(bits, states, strict=True), strict=True):
        if confidence:
            said.setdefault(of_token, []).append(confidence)
    every = [confidence for of_one in said.values() for confidence in of_one]
    if not every:
        return bytes(len(bits))
    return bytes(
        confidence or random.choice(said.get(of_token, every))
        for confidence, of_token in zip(known, zip(bits, states, strict=True), strict=True)
    )


def _mark(marks: Marks, first: int, num_right: int, confidences: bytes) -> None:
    """Tokens from a position on; what lies outside of what was recorded is left out."""
    for i, confidence in enumerate(confidences):
        if 0 <= first + i < len(marks.bits):
            marks.bits[first + i] = int(i < num_right)
            marks.confidences[first + i] = confidence
