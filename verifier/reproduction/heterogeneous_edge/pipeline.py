"""Two stations in turns: the small one drafts for a batch while the large one checks another.

A stage is a draft and a check of every batch. The batches come round in the same order in every
stage, each station takes one at a time, and a batch drafts again when its check is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class BatchTimes(NamedTuple):
    """One batch in one stage."""

    draft_seconds: float
    verify_seconds: float


def cycle_seconds(batches: Sequence[BatchTimes]) -> float:
    """From stage to stage, once the pipeline is full.

    The longest of what cannot overlap: the work of either station, and either half of one batch.
    A chain of waits that mixes these weighs no more a stage (each is a sum of such parts).
    """
    drafting = sum(batch.draft_seconds for batch in batches)
    checking = sum(batch.verify_seconds for batch in batches)
    longest = max(batch.draft_seconds + batch.verify_seconds for batch in batches)
    return max(drafting, checking, longest)


def pipeline_seconds(batches: Sequence[BatchTimes], num_stages: int) -> float:
    """When the last check of the last stage is over, step by step.

    At least `num_stages` cycles, and less than those and the one stage that fills the pipeline.
    """
    small_free, large_free = 0.0, 0.0
    checked_at = [0.0] * len(batches)
    for _ in range(num_stages):
        for i, (draft_seconds, verify_seconds) in enumerate(batches):
            small_free = max(small_free, checked_at[i]) + draft_seconds
            large_free = max(small_free, large_free) + verify_seconds
            checked_at[i] = large_free
    return large_free


def sequential_seconds(batches: Sequence[BatchTimes], num_stages: int) -> float:
    """Without a pipeline: one station waits while the other works."""
    return num_stages * sum(sum(batch) for batch in batches)
