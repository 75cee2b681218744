"""The ways of cutting the queue that the paper compares its dynamic programme with.

The paper names them and does not define them; what each is here stands with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from verifier.reproduction.heterogeneous_edge.batching import QueueTimes

STATIC_BATCH = 8


def single_requests(num_requests: int) -> tuple[int, ...]:
    """No batching: each request alone."""
    return (1,) * num_requests


def static_batches(longest: Sequence[int], size: int = STATIC_BATCH) -> tuple[int, ...]:
    """Always the same number of requests, or as many as fit.

    Args:
        longest: how many may be in a batch that begins with each request.
        size: of a batch.
    """
    sizes: list[int] = []
    start = 0
    while start < len(longest):
        sizes.append(min(size, longest[start]))
        start += sizes[-1]
    return tuple(sizes)


def maximal_batches(longest: Sequence[int]) -> tuple[int, ...]:
    """As many as the small station's memory holds."""
    return static_batches(longest, len(longest))


def heuristic_batches(times: QueueTimes) -> tuple[int, ...]:
    """A request joins the batch as long as that makes the batch's time for each request shorter."""
    sizes: list[int] = []
    start = 0
    while start < len(times.draft_seconds):
        seconds = times.draft_seconds[start] + times.verify_seconds[start]
        size = 1
        while size < len(seconds) and seconds[size] / (size + 1) < seconds[size - 1] / size:
            size += 1
        sizes.append(size)
        start += size
    return tuple(sizes)
