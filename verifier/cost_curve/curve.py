"""How long a round takes, measured once, kept current, shared as a file.

T(tokens, context), and what the chunks of prompts add to it (`look_back`).

The engine measures the grid and reports rounds; the planner, the policies and the simulator ask.
This module must never measure anything itself, nor open a file.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise

import msgspec
import numpy as np

from shared.errors import ModelError
from shared.speculation.goodput import FloatArray, IntArray
from verifier.cost_curve.grid_lines import along, check_lines, isotonic, nearness, segment
from verifier.cost_curve.look_back import Chunk, ChunkSample, LookBack, LookBackGrid

# Grid lines per axis; a file with more is not one of ours.
MAX_GRID_LINES = 256

# How far one round moves the curve. A clock that halves is met to 2 % after some 50 rounds.
OBSERVE_SMOOTHING = 0.1

# Longest step in log seconds that one round may ask for: a spike of 10 times moves the curve by
# 2 %, like a round that is 22 % slow, so that a few stalls in a hundred rounds do not bias it.
MAX_LOG_STEP = 0.2

# Part of each step that all cells follow. What slows rounds down (heat, another process) mostly
# slows all of them; cells that no round visits must not keep the speed of a cold start, or the
# ratio of two rounds, which the budget rests on, would be wrong by the whole change.
SHARED_PART = 0.5

# No round is faster; a coarse clock may report 0.
MIN_ROUND_SECONDS = 1e-6

CostSample = tuple[int, int, float]
"""Tokens of the round, context tokens over all its streams, seconds."""


class CurveSubject(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What was measured; the times of anything else say nothing."""

    model: str
    device: str
    dtype: str
    quantisation: str
    batch_invariant: bool = False

    def differences(self, other: CurveSubject) -> str:
        """What another subject has instead, for a person; empty if they are the same."""
        return ", ".join(
            f"{name} {theirs} instead of {ours}"
            for name, ours in msgspec.structs.asdict(self).items()
            if (theirs := getattr(other, name)) != ours
        )


class CostGrid(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of a cost curve file."""

    num_tokens: tuple[int, ...]
    """Tokens in a round (drafts + one per stream + prefill), ascending."""
    context_tokens: tuple[int, ...]
    """Context lengths summed over the streams of a round, ascending."""
    round_seconds: tuple[tuple[float, ...], ...]
    """One row per context, one entry per number of tokens, never falling along a row."""
    look_back: LookBackGrid | None
    """What chunks of prompts add; none: nothing, made up or too little room to measure it."""
    subject: CurveSubject | None = None
    """What was measured; none: made up, for a test or a simulation."""


class CostCurve:
    """Round seconds by bilinear interpolation; by the last slope above the grid, level below it.

    More tokens never cost less, whatever is observed.
    """

    __slots__ = ("_contexts", "_look_back", "_rows", "_tokens", "subject")

    def __init__(self, grid: CostGrid) -> None:
        """Raises: `ModelError` if the grid is not well formed."""
        _check_grid(grid)
        self._tokens = grid.num_tokens
        self._contexts = grid.context_tokens
        self._rows = [list(row) for row in grid.round_seconds]
        self._look_back = None if grid.look_back is None else LookBack(grid.look_back)
        self.subject = grid.subject

    @classmethod
    def from_samples(
        cls,
        samples: Iterable[CostSample],
        subject: CurveSubject | None = None,
        chunk_samples: Sequence[ChunkSample] = (),
    ) -> CostCurve:
        """Build the curve from measured rounds that cover a full grid; repeats give their median.

        `chunk_samples`, if any, cover a full grid of their own.
        Raises: `ModelError` if a grid point is missing or a time is not above 0.
        """
        cells: dict[tuple[int, int], list[float]] = {}
        for num_tokens, context_tokens, seconds in samples:
            cells.setdefault((context_tokens, num_tokens), []).append(seconds)
        contexts = sorted({context for context, _ in cells})
        tokens = sorted({num_tokens for _, num_tokens in cells})
        for context in contexts:
            for num_tokens in tokens:
                if (context, num_tokens) not in cells:
                    raise ModelError(
                        f"no round of {num_tokens} tokens with {context} context tokens "
                        "was measured"
                    )
        measured = np.array(
            [[statistics.median(cells[context, count]) for count in tokens] for context in contexts]
        )
        if not (np.isfinite(measured).all() and (measured > 0.0).all()):
            raise ModelError("measured round seconds must be finite and above 0")
        # Isotonic regression keeps order, so the second pass does not undo the first.
        by_context = [isotonic(column) for column in measured.T.tolist()]
        rows = [isotonic(row) for row in zip(*by_context, strict=True)]
        grid = CostGrid(tuple(tokens), tuple(contexts), tuple(map(tuple, rows)), None, subject)
        curve = cls(grid)
        if chunk_samples:
            curve._look_back = LookBack.from_samples(
                (chunk, seconds - curve.round_seconds(chunk.num_tokens, sum(chunk)))
                for chunk, seconds in chunk_samples
            )
        return curve

    @classmethod
    def from_json(cls, content: bytes, subject: CurveSubject | None = None) -> CostCurve:
        """Read what `to_json` wrote; with a subject, only if that is what was measured.

        Raises: `ModelError` if it is anything else; the sentence names what differs.
        """
        try:
            grid = msgspec.json.decode(content, type=CostGrid)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ModelError(f"not a cost curve: {error}") from error
        if subject is not None:
            if grid.subject is None:
                raise ModelError("a cost curve that does not say what was measured")
            if differences := subject.differences(grid.subject):
                raise ModelError(f"a cost curve of {differences}")
        return cls(grid)

    def to_json(self) -> bytes:
        """The curve as it is now, for `from_json`."""
        rows = tuple(tuple(row) for row in self._rows)
        look_back = None if self._look_back is None else self._look_back.grid
        return msgspec.json.encode(
            CostGrid(self._tokens, self._contexts, rows, look_back, self.subject)
        )

    @property
    def num_tokens(self) -> tuple[int, ...]:
        """The grid's numbers of tokens, ascending."""
        return self._tokens

    @property
    def context_tokens(self) -> tuple[int, ...]:
        """The grid's contexts, ascending."""
        return self._contexts

    def round_seconds(
        self, num_tokens: int, context_tokens: float, chunks: Sequence[Chunk] = ()
    ) -> float:
        """The expected seconds of a round; its tokens and its context are also those of chunks."""
        seconds = self._seconds_without_chunks(num_tokens, context_tokens)
        return seconds if self._look_back is None else seconds + self._look_back.seconds(chunks)

    def _seconds_without_chunks(self, num_tokens: int, context_tokens: float) -> float:
        context_index, context_fraction = segment(self._contexts, context_tokens)
        upper_index = min(context_index + 1, len(self._contexts) - 1)
        token_index, token_fraction = segment(self._tokens, num_tokens)
        # Tokens may draw together as the context grows; above the grid they would cross.
        before = highest = 0.0
        for lower, upper in zip(
            self._rows[context_index][: token_index + 2], self._rows[upper_index], strict=False
        ):
            before = highest
            highest = max(highest, along(lower, upper, context_fraction))
        return along(before, highest, token_fraction)

    def rounds_seconds(self, num_tokens: IntArray, context_tokens: float) -> FloatArray:
        """`round_seconds` of many token counts, ascending, at one context."""
        index, fraction = segment(self._contexts, context_tokens)
        lower, upper = self._rows[index], self._rows[min(index + 1, len(self._rows) - 1)]
        row = [along(before, after, fraction) for before, after in zip(lower, upper, strict=True)]
        row = list(accumulate(row, max))  # they may cross above the grid
        seconds: FloatArray = np.interp(num_tokens, self._tokens, row)
        if num_tokens[-1] <= self._tokens[-1]:
            return seconds
        slope = (row[-1] - row[-2]) / (self._tokens[-1] - self._tokens[-2])
        beyond = np.maximum(num_tokens - self._tokens[-1], 0)
        return seconds + slope * beyond

    def line(self, context_tokens: float) -> tuple[float, float]:
        """Seconds c0 and c1, of the line c0 + c1 * tokens nearest to the curve.

        Nearest in squares of relative errors, so that short rounds count as much as long ones.
        """
        seconds = np.array([self.round_seconds(count, context_tokens) for count in self._tokens])
        columns = np.stack([np.ones(len(seconds)), np.array(self._tokens)], axis=1)
        solution = np.linalg.lstsq(columns / seconds[:, None], np.ones(len(seconds)), rcond=None)
        fixed_seconds, token_seconds = solution[0].tolist()
        return fixed_seconds, token_seconds

    def drafts_within(
        self, num_tokens: int, context_tokens: float, slowdown_limit: float, max_drafts: int
    ) -> int:
        """How many tokens more lengthen a round of `num_tokens` by the limit at most."""
        max_seconds = (1.0 + slowdown_limit) * self.round_seconds(num_tokens, context_tokens)
        return bisect_right(
            range(1, max_drafts + 1),
            max_seconds,
            key=lambda drafts: self.round_seconds(num_tokens + drafts, context_tokens),
        )

    def observe(
        self,
        num_tokens: int,
        context_tokens: float,
        seconds: float,
        chunks: Sequence[Chunk] = (),
    ) -> None:
        """Move the curve towards a round that took `seconds`: the nearest cells most, all a bit.

        One table learns from a round, or what is wrong in one would be put right in the other:
        beside a long prompt every round has a chunk, and none would show the mistake.
        """
        expected = self.round_seconds(num_tokens, context_tokens, chunks)
        log_error = math.log(max(seconds, MIN_ROUND_SECONDS) / expected)
        step = OBSERVE_SMOOTHING * min(max(log_error, -MAX_LOG_STEP), MAX_LOG_STEP)
        look_back = self._look_back
        if look_back is not None and look_back.is_taught_by(chunks, expected, seconds):
            look_back.observe(chunks, expected * math.expm1(step))
            return
        near_contexts = nearness(self._contexts, context_tokens)
        near = near_contexts[:, None] * nearness(self._tokens, num_tokens)
        near /= (near * near).sum()  # so that the round itself moves by a whole step
        moved = np.array(self._rows) * np.exp(step * (SHARED_PART + (1.0 - SHARED_PART) * near))
        # Where a moved cell passes a neighbour, the newer measurement wins and pushes it along.
        if step >= 0.0:
            moved = np.maximum.accumulate(moved, axis=1)
        else:
            moved = np.minimum.accumulate(moved[:, ::-1], axis=1)[:, ::-1]
        self._rows = moved.tolist()


def _check_grid(grid: CostGrid) -> None:
    check_lines("token counts", grid.num_tokens, 2, MAX_GRID_LINES)
    check_lines("contexts", grid.context_tokens, 1, MAX_GRID_LINES)
    if len(grid.round_seconds) != len(grid.context_tokens) or any(
        len(row) != len(grid.num_tokens) for row in grid.round_seconds
    ):
        raise ModelError("cost curve rows do not match its token counts and contexts")
    for row in grid.round_seconds:
        if not all(math.isfinite(seconds) and seconds > 0.0 for seconds in row):
            raise ModelError("round seconds of a cost curve must be finite and above 0")
        if any(after < before for before, after in pairwise(row)):
            raise ModelError("round seconds of a cost curve must not fall as tokens grow")
