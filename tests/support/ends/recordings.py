"""Recordings whose world is known."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from verifier.recording.lines import (
    VERSION,
    Begin,
    Boards,
    BoardSpeed,
    Line,
    RoundEnd,
    StreamBegin,
    StreamEnd,
    StreamPart,
)

BEGIN = Begin(VERSION, "target", 1.8e9, {"policy": "fixed"})


def known_lines(
    *,
    num_rounds: int = 400,
    fixed_seconds: float = 0.05,
    token_seconds: float = 0.002,
    jitter: float = 0.1,
    seed: int = 1,
) -> list[Line]:
    """Two boards: `near` drafts up to 4 tokens, of which 3 in 4 are right, `idle` none.

    `idle` has two streams of 50 rounds, 50 rounds apart.
    """
    random, at = Random(seed), 0.0
    lines: list[Line] = [BEGIN, StreamBegin(at, 1, "near", "coupled", 12)]
    for number in range(num_rounds):
        if number in (100, 200):
            lines.append(StreamBegin(at, number, "idle", "rejection", 8))
        parts = [_drafted(random)]
        parts += [StreamPart(begun, 0, 0, 1) for begun in (100, 200) if 0 <= number - begun < 50]
        num_tokens = sum(1 + part.num_tested for part in parts)
        seconds = (fixed_seconds + token_seconds * num_tokens) * random.lognormvariate(0, jitter)
        at += seconds
        lines.append(RoundEnd(at, seconds, 0.9 * seconds, num_tokens, 0, 100, tuple(parts)))
        if number in (149, 249):
            lines.append(StreamEnd(at, number - 49, "length"))
    speeds = {"near": BoardSpeed(0.02, 0.01), "idle": BoardSpeed(None, None)}
    return [*lines, Boards(at, speeds)]


def _drafted(random: Random) -> StreamPart:
    num_tested = random.randrange(5)
    num_accepted = 0
    while num_accepted < num_tested and random.random() < 0.75:
        num_accepted += 1
    return StreamPart(1, num_tested, num_accepted, 1)


def rounds_of(lines: Iterable[Line]) -> list[RoundEnd]:
    return [line for line in lines if isinstance(line, RoundEnd)]
