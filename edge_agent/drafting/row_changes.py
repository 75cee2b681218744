"""What a request does to the rows that a board draws from: biases, penalties, min_p. Pure.

For acceptance alone: the target's own rows are changed by the verifier, whatever a board does. In
`rejection` the changed row is the one that is drawn from and sent, so the text stays exact. Ends
that are ruled out are left to the verifier: only it knows which they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.speculation.logit_processors import NO_PROCESSORS, LogitProcessors, min_p_depth
from shared.speculation.sampling import SamplingParameters


class RowChange(msgspec.Struct, frozen=True, eq=False):
    """What is done to one row; `written` are output and draft before it."""

    changes: RowChanges
    written: tuple[int, ...]

    def applied(
        self, logits: NDArray[np.float32], sampling: SamplingParameters
    ) -> NDArray[np.float32]:
        """Another row [vocab_size]; it may take 0.1 ms, so it is for the drafting thread."""
        row, asked = logits.astype(np.float32), self.changes.processors
        for token_id, bias in asked.logit_bias:
            if token_id < len(row):
                row[token_id] += np.float32(bias)
        if asked.has_penalties:
            self._penalise(row, asked)
        depth = min_p_depth(asked, sampling)
        if depth < math.inf:
            row[row < row.max() - np.float32(depth)] = -np.inf
        return row

    def _penalise(self, row: NDArray[np.float32], asked: LogitProcessors) -> None:
        written, counts = np.unique(np.array(self.written, dtype=np.int64), return_counts=True)
        is_known = written < len(row)  # padding may be longer at the target
        written, counts = written[is_known], counts[is_known].astype(np.float32)
        if asked.repetition_penalty != 1:
            seen = self.changes.seen_prompt
            seen = np.union1d(seen[seen < len(row)], written)
            factor, logits = np.float32(asked.repetition_penalty), row[seen]
            row[seen] = np.where(logits > 0, logits / factor, logits * factor)
        row[written] -= np.float32(asked.frequency_penalty) * counts
        row[written] -= np.float32(asked.presence_penalty)


class RowChanges:
    """Of one stream; its prompt is looked at once."""

    def __init__(self, processors: LogitProcessors = NO_PROCESSORS) -> None:
        self.processors = processors
        self.seen_prompt: NDArray[np.int64] = np.zeros(0, np.int64)  # distinct
        self.is_any = bool(processors.has_penalties or processors.logit_bias or processors.min_p)

    def behind(
        self, prompt_ids: Sequence[int], output_ids: Sequence[int], drafted_ids: Sequence[int]
    ) -> RowChange | None:
        """What is done to the row behind these; None: nothing. The prompt is ever the same."""
        if not self.is_any:
            return None
        if not self.processors.has_penalties:
            return RowChange(self, ())
        if self.processors.repetition_penalty != 1 and not len(self.seen_prompt):
            self.seen_prompt = np.unique(np.array(prompt_ids, dtype=np.int64))
        return RowChange(self, (*output_ids, *drafted_ids))
