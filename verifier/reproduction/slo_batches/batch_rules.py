"""Which waiting drafts are checked together: one, all, DiP-SD's ordered batches, or by deadlines.

This module must never know what a draft is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple, Protocol

from verifier.promises.token_deadlines import SAME_SECONDS
from verifier.reproduction.slo_batches.ordered_batches import OrderedPlan


class Request(NamedTuple):
    """A draft that waits for its check."""

    due_at: float  # of the stream's next token
    board: int
    num_tokens: int  # with the target's own


class BatchRule(Protocol):
    """Chooses the next batch whenever the target is free."""

    def next_batch(
        self, waiting: Sequence[Request], drafting: AbstractSet[int], now: float
    ) -> list[Request]:
        """Of those that wait, the longest waiting first; empty: the target waits for more.

        `drafting`: boards whose draft is not here yet.
        """
        ...


class AllThatWait:
    """First come, first served, in one batch: greedy batching, as SLED's server does it."""

    def next_batch(
        self, waiting: Sequence[Request], drafting: AbstractSet[int], now: float
    ) -> list[Request]:
        """See `BatchRule`."""
        return list(waiting)


class OneByOne:
    """First come, first served, without batches."""

    def next_batch(
        self, waiting: Sequence[Request], drafting: AbstractSet[int], now: float
    ) -> list[Request]:
        """See `BatchRule`."""
        return list(waiting[:1])


class OrderedBatches:
    """DiP-SD: the batches of a plan in turn; each waits for all of its users that draft."""

    def __init__(self, plan: OrderedPlan) -> None:
        self._batches = [frozenset(batch) for batch in plan.batches]
        self._turn = 0

    def next_batch(
        self, waiting: Sequence[Request], drafting: AbstractSet[int], now: float
    ) -> list[Request]:
        """See `BatchRule`; a batch of users that are all idle is passed over."""
        for _ in self._batches:
            members = self._batches[self._turn]
            if members & drafting:
                return []
            self._turn = (self._turn + 1) % len(self._batches)
            batch = [request for request in waiting if request.board in members]
            if batch:
                return batch
        return []


class DeadlineBatches:
    """By deadlines, the earliest first, as many as leave each of them in time (after WISP).

    A draft that is late whatever is done goes last and makes no batch shorter: with it in its turn
    a crowd's batches become ever smaller, and all are late.
    """

    def __init__(self, seconds_of: Callable[[int], float]) -> None:
        """`seconds_of`: a check of so many tokens, which is exact here."""
        self._seconds_of = seconds_of

    def next_batch(
        self, waiting: Sequence[Request], drafting: AbstractSet[int], now: float
    ) -> list[Request]:
        """See `BatchRule`."""
        batch: list[Request] = []
        num_tokens, earliest = 0, float("inf")
        for is_late, request in sorted((self._is_late(one, now), one) for one in waiting):
            num_tokens += request.num_tokens
            if not is_late:
                earliest = min(earliest, request.due_at)
            if batch and now + self._seconds_of(num_tokens) > earliest + SAME_SECONDS:
                break
            batch.append(request)
        return batch

    def _is_late(self, request: Request, now: float) -> bool:
        return request.due_at + SAME_SECONDS < now + self._seconds_of(request.num_tokens)
