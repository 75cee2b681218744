"""What a prompt's chunk costs beyond its tokens: each of them looks back on all that is before it.

The rounds of the cost curve have few tokens of each stream, whose keys are read once for all of
them; a chunk of n tokens at depth p looks n times at p keys. A table instead of seconds for each
pair of tokens: it holds whatever layers with windows, tiles of a kernel and rounds that no CUDA
graph runs make of it. This module must never measure anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np

from shared.errors import ModelError
from verifier.cost_curve.grid_lines import along, check_lines, isotonic, nearness, segment
from verifier.target.round import Round

# More of one stream in a round is a chunk; rounds of the cost curve are measured with so many.
STREAM_TOKENS = 8

# The kernel for GPUs takes so many tokens at a time where four heads share a key; a chunk of one
# more costs as much as one of 16 more. (On a CPU, 15 tokens are next to nothing.)
STEP_TOKENS = 16

MAX_LINES = 64  # of each axis; a file with more is not one of ours

# What one round may make of the price: half of it or twice. It moves by a part of what the round
# was longer than expected, so a stall of 10 times does not double a price that is right.
_MOST_LOG_STEP = math.log(2.0)
# Part of each step that all cells follow: most of what is wrong at one depth is wrong at others.
_SHARED_PART = 0.5
# Where looking back is less than this part of a round that was shorter than expected, what is too
# dear is something else.
_LEAST_PART = 0.1
# A price of nothing could never grow.
_LEAST_SECONDS = 1e-9


class Chunk(NamedTuple):
    """Tokens of a prompt that one round reads, and how many of their stream come before them."""

    num_tokens: int
    depth_tokens: int


ChunkSample = tuple[Chunk, float]
"""A round of nothing but a chunk, seconds."""


def chunks_of(round_: Round) -> tuple[Chunk, ...]:
    """The chunks of a round; drafts are none, however long."""
    chunks = []
    for item in round_.items:
        check = item.draft_check
        num_read = len(item.token_ids) - (0 if check is None else len(check.draft_token_ids))
        if num_read > STREAM_TOKENS:
            chunks.append(Chunk(num_read, item.num_cached_tokens))
    return tuple(chunks)


class LookBackGrid(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept of it in a cost curve file."""

    num_tokens: tuple[int, ...]
    """Tokens of a chunk, ascending."""
    depth_tokens: tuple[int, ...]
    """Tokens before it, ascending from 0."""
    seconds: tuple[tuple[float, ...], ...]
    """Beyond the cost curve: one row for each depth, never falling along a row."""


class LookBack:
    """Seconds by bilinear interpolation, in steps of 16 tokens; by the last slope above the grid.

    A longer chunk never costs less, whatever is observed.
    """

    __slots__ = ("_depths", "_rows", "_tokens")

    def __init__(self, grid: LookBackGrid) -> None:
        """Raises: `ModelError` if the grid is not well formed."""
        _check_grid(grid)
        self._tokens = grid.num_tokens
        self._depths = grid.depth_tokens
        self._rows = [list(row) for row in grid.seconds]

    @classmethod
    def from_samples(cls, samples: Iterable[ChunkSample]) -> LookBack:
        """Build the table from what chunks took beyond the cost curve, on a full grid.

        What took less counts as nothing; at depth 0 nothing is looked back on, unless measured.
        Raises: `ModelError` if a point is missing.
        """
        cells = {chunk: max(seconds, 0.0) for chunk, seconds in samples}
        tokens = sorted({chunk.num_tokens for chunk in cells})
        cells = {Chunk(num_tokens, 0): 0.0 for num_tokens in tokens} | cells
        depths = sorted({chunk.depth_tokens for chunk in cells})
        missing = {Chunk(n, d) for n in tokens for d in depths} - cells.keys()
        if missing:
            raise ModelError(f"no {min(missing)} was measured")
        # Isotonic regression keeps order, so the second pass does not undo the first.
        by_depth = [isotonic([cells[Chunk(n, d)] for d in depths]) for n in tokens]
        rows = tuple(tuple(isotonic(row)) for row in zip(*by_depth, strict=True))
        return cls(LookBackGrid(tuple(tokens), tuple(depths), rows))

    @property
    def grid(self) -> LookBackGrid:
        """The table as it is now."""
        return LookBackGrid(self._tokens, self._depths, tuple(tuple(row) for row in self._rows))

    def is_taught_by(
        self, chunks: Sequence[Chunk], expected_seconds: float, seconds: float
    ) -> bool:
        """Whether a round with these tells more of looking back than of anything else.

        However wrong the table is: chunks that begin before its first depth look back on little,
        and what their rounds take is the cost curve's to learn.
        """
        if all(chunk.depth_tokens < self._depths[1] for chunk in chunks):
            return False
        return seconds >= expected_seconds or self.seconds(chunks) >= _LEAST_PART * expected_seconds

    def seconds(self, chunks: Sequence[Chunk]) -> float:
        """What the chunks of one round add to it."""
        return sum([self._chunk_seconds(chunk) for chunk in chunks])

    def observe(self, chunks: Sequence[Chunk], seconds_more: float) -> None:
        """Move the price of these chunks by so many seconds, that of others half as far."""
        expected = max(self.seconds(chunks), _LEAST_SECONDS)
        wanted = max((expected + seconds_more) / expected, math.exp(-_MOST_LOG_STEP))
        step = min(math.log(wanted), _MOST_LOG_STEP)
        near = np.zeros((len(self._depths), len(self._tokens)))
        for chunk in chunks:
            near += np.outer(
                nearness(self._depths, chunk.depth_tokens),
                nearness(self._tokens, _whole_steps(chunk.num_tokens)),
            )
        near *= near.sum() / np.square(near).sum()  # so that they move by a whole step themselves
        moved = np.maximum(np.array(self._rows), _LEAST_SECONDS)
        moved *= np.exp(step * (_SHARED_PART + (1.0 - _SHARED_PART) * near))
        # Where a moved cell passes a neighbour, the newer measurement wins and pushes it along.
        for axis in (0, 1):
            if step >= 0.0:
                moved = np.maximum.accumulate(moved, axis=axis)
            else:
                moved = np.flip(np.minimum.accumulate(np.flip(moved, axis), axis), axis)
        self._rows = moved.tolist()

    def _chunk_seconds(self, chunk: Chunk) -> float:
        if chunk.num_tokens <= STREAM_TOKENS:
            return 0.0
        depth_index, depth_fraction = segment(self._depths, chunk.depth_tokens)
        token_index, token_fraction = segment(self._tokens, _whole_steps(chunk.num_tokens))
        # Long chunks may draw together with depth; above the grid they would cross.
        before = highest = 0.0
        for lower, upper in zip(
            self._rows[depth_index][: token_index + 2], self._rows[depth_index + 1], strict=False
        ):
            before = highest
            highest = max(highest, along(lower, upper, depth_fraction))
        return along(before, highest, token_fraction)


def _whole_steps(num_tokens: int) -> int:
    return -(-num_tokens // STEP_TOKENS) * STEP_TOKENS


def _check_grid(grid: LookBackGrid) -> None:
    check_lines("chunks", grid.num_tokens, 2, MAX_LINES)
    check_lines("depths", grid.depth_tokens, 2, MAX_LINES)
    if len(grid.seconds) != len(grid.depth_tokens) or any(
        len(row) != len(grid.num_tokens) for row in grid.seconds
    ):
        raise ModelError("chunk rows of a cost curve do not match its chunks and depths")
    for row in grid.seconds:
        if not all(math.isfinite(seconds) and seconds >= 0.0 for seconds in row):
            raise ModelError("chunk seconds of a cost curve must be finite and not below 0")
        if any(after < before for before, after in pairwise(row)):
            raise ModelError("chunk seconds of a cost curve must not fall as chunks grow")
