"""How long every batch of a sorted queue takes in one stage, at each draft length.

Every request of a batch is padded to its longest prompt, and looks back on half of the output, the
mean over all stages: work is linear in the position, so the sum over stages is exact.
"""

from __future__ import annotations

import math

import numpy as np

from shared.speculation.goodput import FloatArray, IntArray, expected_tokens
from verifier.reproduction.heterogeneous_edge.batching import QueueTimes
from verifier.reproduction.heterogeneous_edge.models import SHAPES
from verifier.reproduction.heterogeneous_edge.scenario import EdgeScenario

# Times of more requests are made anew for each arm: they take 16 bytes for every pair of them.
MOST_REMEMBERED = 512


class StageWork:
    """All batches that fit into the small station; of each draft length their times, once made."""

    def __init__(
        self, scenario: EdgeScenario, input_tokens: IntArray, *, is_bounded: bool = True
    ) -> None:
        """`input_tokens`: rising; not `is_bounded`: as if the small station had room for all."""
        self._stations = scenario.stations
        self._draft = SHAPES[self._stations.draft_model]
        self._target = SHAPES[self._stations.target_model]
        output_tokens = scenario.requests.max_output_tokens
        count = len(input_tokens)
        self._counts = np.arange(1.0, count + 1.0)
        longest = _padded_inputs(input_tokens)
        fitting = count - np.arange(count)
        if is_bounded:
            cached = self._counts * (longest + output_tokens) * self._draft.cache_bytes
            fitting = np.minimum(fitting, (cached <= self._stations.cache_bytes).sum(axis=1))
        self.longest_batches: tuple[int, ...] = tuple(fitting.tolist())
        """Of each request: how many may be in a batch that begins with it."""
        self._contexts = longest + 0.5 * output_tokens
        self._made: dict[int, QueueTimes] = {}

    def times(self, draft_length: int) -> QueueTimes:
        """One stage: so many steps of the small station, and a check of one token more."""
        made = self._made.get(draft_length)
        if made is None:
            made = self._make(draft_length)
            if len(self._counts) <= MOST_REMEMBERED:
                self._made[draft_length] = made
        return made

    def _make(self, draft_length: int) -> QueueTimes:
        draft, target, counts = self._draft, self._target, self._counts
        drafting, checking = self._stations.drafting, self._stations.checking
        flops = draft.token_flops + draft.look_back_flops * self._contexts
        step_seconds = drafting.seconds_per_flop * counts * flops + drafting.fixed_seconds
        drafts = draft_length * step_seconds
        contexts = self._contexts + 0.5 * draft_length
        flops = (draft_length + 1) * (target.token_flops + target.look_back_flops * contexts)
        checks = checking.seconds_per_flop * counts * flops + checking.fixed_seconds
        return QueueTimes(self._rows(drafts), self._rows(checks))

    def _rows(self, seconds: FloatArray) -> list[FloatArray]:
        return [row[:size] for row, size in zip(seconds, self.longest_batches, strict=True)]


def _padded_inputs(input_tokens: IntArray) -> FloatArray:
    """The longest prompt of each batch [start, size − 1]; that of all where none is so large."""
    count = len(input_tokens)
    last = np.arange(count)[:, None] + np.arange(count)
    longest: FloatArray = input_tokens[np.minimum(last, count - 1)].astype(np.float64)
    return longest


def num_stages(output_tokens: int, acceptance: float, draft_length: int) -> int:
    """Stages until so many tokens are written, as expected: ceil(O / E(l))."""
    return math.ceil(output_tokens / expected_tokens(acceptance, draft_length))
