"""Random-S: the papers' second baseline, a fresh random split in every round.

It must never draw from anything but the generator it was given.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from verifier.policies.draft_length_policy import StreamShare


class RandomPolicy:
    """Draws uniformly from all splits with a sum of at most C, then cuts at each `max_length`.

    The paper names no distribution (GoodSpeed, arXiv 2512.09963, baseline Random-S).
    """

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator

    def allocate(self, streams: Sequence[StreamShare], budget_tokens: int) -> list[int]:
        """See `DraftLengthPolicy`; moves the generator on."""
        num_streams = len(streams)
        # Stars and bars: N bars among C + N places; the tokens before bar i are stream i's, those
        # after the last bar are no stream's.
        num_places = max(budget_tokens, 0) + num_streams
        bars = np.sort(self._generator.choice(num_places, size=num_streams, replace=False))
        drawn_lengths = (np.diff(bars, prepend=-1) - 1).tolist()
        return [
            min(length, stream.max_length)
            for length, stream in zip(drawn_lengths, streams, strict=True)
        ]
