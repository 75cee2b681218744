"""Fixed-S: the papers' baseline, the same draft length for every stream.

It must never look at what a stream has achieved.
"""

from __future__ import annotations

from collections.abc import Sequence

from verifier.policies.draft_length_policy import StreamShare


class FixedPolicy:
    """Gives each of N streams C/N tokens of a budget C, or a given length if that is less.

    What does not divide goes to the first streams, one each, so that the baseline spends as much
    as its rivals (GoodSpeed, arXiv 2512.09963, baseline Fixed-S).
    """

    def __init__(self, draft_length: int | None = None) -> None:
        self._draft_length = draft_length

    def allocate(self, streams: Sequence[StreamShare], budget_tokens: int) -> list[int]:
        """See `DraftLengthPolicy`."""
        if not streams:
            return []
        share, num_left = divmod(max(budget_tokens, 0), len(streams))
        asked_length = share + 1 if self._draft_length is None else self._draft_length
        return [
            min(asked_length, share + (index < num_left), stream.max_length)
            for index, stream in enumerate(streams)
        ]
