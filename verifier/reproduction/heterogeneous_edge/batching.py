"""Cutting a sorted queue into batches, exactly: the shortest cycle of the pipeline.

A partial cut is worth its two sums of stage times and the longest of its batches; of the cuts of
the same first requests those stay that no other beats in all three. What the requests still to come
add to either sum at least is known from two backward passes, and no cut that cannot beat the best
one known goes on. This module must never know what makes a batch take long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from shared.speculation.goodput import FloatArray, IntArray
from verifier.reproduction.heterogeneous_edge.pipeline import BatchTimes, cycle_seconds

# Two cycles that differ by less are equal: rounding of sums.
RELATIVE_TOLERANCE = 1e-12


class QueueTimes(NamedTuple):
    """Times of every batch that may be: entry [start][i] is of requests start … start + i.

    Longer batches than a list has entries are not allowed; every list has one at least.
    """

    draft_seconds: Sequence[FloatArray]
    verify_seconds: Sequence[FloatArray]

    def of(self, sizes: Sequence[int]) -> list[BatchTimes]:
        """The times of consecutive batches of these sizes."""
        starts = np.cumsum([0, *sizes[:-1]]).tolist()
        return [
            BatchTimes(
                float(self.draft_seconds[start][size - 1]),
                float(self.verify_seconds[start][size - 1]),
            )
            for start, size in zip(starts, sizes, strict=True)
        ]


class Cut(NamedTuple):
    """A way to cut the queue."""

    sizes: tuple[int, ...]
    cycle_seconds: float


class _Labels(NamedTuple):
    """Undominated cuts of the first requests; rows of `sums`: drafts, checks, longest batch."""

    sums: FloatArray  # [num_labels, 3]
    starts: FloatArray  # [num_labels], where the last batch of each begins
    parents: FloatArray  # [num_labels], which cut of the requests before it


def shortest_sum(seconds: Sequence[FloatArray]) -> tuple[FloatArray, tuple[int, ...]]:
    """Least sums of batch times from each request on [num_requests + 1], and the sizes for all."""
    num_requests = len(seconds)
    rest = np.zeros(num_requests + 1)
    sizes = np.zeros(num_requests, dtype=np.int64)
    for start in range(num_requests - 1, -1, -1):
        lasts = len(seconds[start])
        sums = seconds[start] + rest[start + 1 : start + 1 + lasts]
        best = int(sums.argmin())
        rest[start], sizes[start] = sums[best], best + 1
    return rest, _follow(sizes)


def shortest_cycle(times: QueueTimes, *, cycle_limit: float = np.inf) -> Cut | None:
    """The cut with the shortest cycle; None: none is below `cycle_limit`."""
    rest_drafts, few_drafts = shortest_sum(times.draft_seconds)
    rest_checks, few_checks = shortest_sum(times.verify_seconds)
    both = [d + v for d, v in zip(times.draft_seconds, times.verify_seconds, strict=True)]
    known = [few_drafts, few_checks, shortest_sum(both)[1]]
    best = min((_cut(times, sizes) for sizes in known), key=lambda cut: cut.cycle_seconds)
    at_least = max(rest_drafts[0], rest_checks[0])
    limit = min(best.cycle_seconds, cycle_limit) * (1.0 - RELATIVE_TOLERANCE)
    if at_least < limit:
        better = _search(times, np.column_stack([rest_drafts, rest_checks]), limit, at_least)
        best = better or best
    return best if best.cycle_seconds < cycle_limit else None


def _search(times: QueueTimes, rest: FloatArray, limit: float, at_least: float) -> Cut | None:
    """The shortest cycle below the limit, if there is one."""
    num_requests = len(times.draft_seconds)
    waiting: list[list[_Labels]] = [[] for _ in range(num_requests + 1)]
    waiting[0].append(_Labels(np.array([[0.0, 0.0, at_least]]), np.zeros(1), np.zeros(1)))
    kept: list[_Labels | None] = [None] * (num_requests + 1)
    for start in range(num_requests + 1):
        if not waiting[start]:
            continue
        labels = kept[start] = _undominated(waiting[start])
        waiting[start] = []
        if start < num_requests:
            _spread(times, rest, limit, labels, start, waiting)
    last = kept[num_requests]
    if last is None:
        return None
    return _cut(times, _trace(kept, int(last.sums.max(axis=1).argmin())))


def _spread(
    times: QueueTimes,
    rest: FloatArray,
    limit: float,
    labels: _Labels,
    start: int,
    waiting: list[list[_Labels]],
) -> None:
    """Each cut with each batch that may follow it, where that may still come below the limit."""
    drafts, checks = times.draft_seconds[start], times.verify_seconds[start]
    ends = slice(start + 1, start + 1 + len(drafts))
    sums = np.empty((len(labels.sums), len(drafts), 3))
    sums[:, :, 0] = labels.sums[:, :1] + drafts
    sums[:, :, 1] = labels.sums[:, 1:2] + checks
    sums[:, :, 2] = np.maximum(labels.sums[:, 2:], drafts + checks)
    may_win = (sums[:, :, :2] + rest[ends] < limit).all(axis=2) & (sums[:, :, 2] < limit)
    for i in np.flatnonzero(may_win.any(axis=0)).tolist():
        which = np.flatnonzero(may_win[:, i])
        waiting[start + 1 + i].append(
            _Labels(sums[which, i], np.full(len(which), start), which.astype(np.float64))
        )


def _undominated(groups: Sequence[_Labels]) -> _Labels:
    """Without the cuts that another one beats or equals in all three sums."""
    sums = np.concatenate([labels.sums for labels in groups])
    order = np.lexsort(sums.T[::-1])
    kept: list[int] = []
    front = np.empty((0, 2))
    for i in order.tolist():  # drafts rise, so the other two sums decide
        if not (front <= sums[i, 1:]).all(axis=1).any():
            kept.append(i)
            front = np.vstack([front, sums[i, 1:]])
    starts = np.concatenate([labels.starts for labels in groups])
    parents = np.concatenate([labels.parents for labels in groups])
    return _Labels(sums[kept], starts[kept], parents[kept])


def _trace(kept: Sequence[_Labels | None], label: int) -> tuple[int, ...]:
    """The sizes of the batches that led to a cut of all requests."""
    sizes: list[int] = []
    end = len(kept) - 1
    while end:
        labels = kept[end]
        assert labels is not None
        start = int(labels.starts[label])
        label = int(labels.parents[label])
        sizes.append(end - start)
        end = start
    return tuple(reversed(sizes))


def _cut(times: QueueTimes, sizes: tuple[int, ...]) -> Cut:
    return Cut(sizes, cycle_seconds(times.of(sizes)))


def _follow(sizes: IntArray) -> tuple[int, ...]:
    """From the best size at each request to those of the batches."""
    followed: list[int] = []
    start = 0
    while start < len(sizes):
        followed.append(int(sizes[start]))
        start += followed[-1]
    return tuple(followed)
