"""What every scheduling policy takes and gives.

Policies must never read a clock, draw from a random generator that was not handed to them, or
remember a stream: the same share of the same streams always gets the same answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec


class StreamShare(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a policy may know about one open stream."""

    acceptance_rate: float
    """Estimated probability that the next draft token survives, in (0, 1)."""
    goodput: float
    """X: output tokens per round, smoothed; of the whole device where fairness is per device."""
    weight: float = 1.0
    """Priority of the device, above 0."""
    max_length: int
    """The longest draft that the stream can use; 0 where drafts do not pay."""


class DraftLengthPolicy(Protocol):
    """Splits the budget of a round over the open streams."""

    def allocate(self, streams: Sequence[StreamShare], budget_tokens: int) -> list[int]:
        """One draft length per stream, in order.

        Each is at least 0 and at most the stream's `max_length`; their sum is at most the budget.
        """
        ...
