"""One row of a draft model as a request changes it: biases, penalties, min_p. Pure."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edge_agent.drafting.row_changes import RowChange
from shared.speculation.logit_processors import min_p_depth
from shared.speculation.sampling import SamplingParameters


def changed_row(
    logits: NDArray[np.float32], change: RowChange, sampling: SamplingParameters
) -> NDArray[np.float32]:
    """Another row [vocab_size]; it may take 0.1 ms, so it is for the drafting thread."""
    row, asked = logits.astype(np.float32), change.changes.processors
    for token_id, bias in asked.logit_bias:
        if token_id < len(row):
            row[token_id] += np.float32(bias)
    if asked.has_penalties:
        _penalise(row, change)
    depth = min_p_depth(asked, sampling)
    if depth < math.inf:
        row[row < row.max() - np.float32(depth)] = -np.inf
    return row


def _penalise(row: NDArray[np.float32], change: RowChange) -> None:
    asked = change.changes.processors
    written, counts = np.unique(np.array(change.written, dtype=np.int64), return_counts=True)
    is_known = written < len(row)  # padding may be longer at the target
    written, counts = written[is_known], counts[is_known].astype(np.float32)
    if asked.repetition_penalty != 1:
        seen = np.array(change.changes.seen_prompt, dtype=np.int64)
        seen = np.union1d(seen[seen < len(row)], written)
        factor, logits = np.float32(asked.repetition_penalty), row[seen]
        row[seen] = np.where(logits > 0, logits / factor, logits * factor)
    row[written] -= np.float32(asked.frequency_penalty) * counts
    row[written] -= np.float32(asked.presence_penalty)
