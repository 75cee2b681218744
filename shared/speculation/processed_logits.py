"""The logits that a request asks for, behind a prompt and an output: the float32 reference."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from shared.speculation.logit_processors import LogitProcessors, additions, min_p_depth
from shared.speculation.sampling import SamplingParameters


def processed(
    logits: NDArray[np.floating],
    processors: LogitProcessors,
    sampling: SamplingParameters,
    *,
    prompt_ids: Sequence[int],
    output_ids: Sequence[int],
    end_ids: Collection[int],
) -> NDArray[np.float32]:
    """The logits [vocab_size] to sample from; what is done to them is told by the processors."""
    row = logits.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # of what is not finite from the start
        may_end = len(output_ids) >= processors.min_tokens
        for token_id, addend in additions(processors, end_ids, may_end=may_end).items():
            row[token_id] += np.float32(addend)
        if processors.has_penalties:
            _penalise(row, processors, prompt_ids, output_ids)
        depth = min_p_depth(processors, sampling)
        if depth < math.inf:
            row[row < row.max() - np.float32(depth)] = -np.inf
    return row


def _penalise(
    row: NDArray[np.float32],
    processors: LogitProcessors,
    prompt_ids: Sequence[int],
    output_ids: Sequence[int],
) -> None:
    factor = np.float32(processors.repetition_penalty)
    for token_id in {*prompt_ids, *output_ids}:
        row[token_id] = row[token_id] / factor if row[token_id] > 0 else row[token_id] * factor
    for token_id, count in Counter(output_ids).items():
        row[token_id] -= np.float32(processors.frequency_penalty) * np.float32(count)
        row[token_id] -= np.float32(processors.presence_penalty)
