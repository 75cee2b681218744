"""The wire form of a draft distribution: at most `k` token ids with integer weights.

The verifier divides by their sum; `quantised_row` makes one of probabilities.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:  # a board without a model takes this module, and does without numpy
    import numpy as np
    from numpy.typing import NDArray

# Weights are 16-bit parts of this whole; a probability below half a part is not sent.
WEIGHT_TOTAL = 65_535


class SparseRow(msgspec.Struct, frozen=True, eq=False):
    """A draft distribution over a few tokens, most likely first."""

    token_ids: NDArray[np.uint32]  # [num_entries] unique
    weights: NDArray[np.uint16]  # [num_entries] positive, not increasing

    @property
    def probs(self) -> NDArray[np.float64]:
        """The distribution that the tokens were drawn from [num_entries]."""
        weights = self.weights.astype("float64")
        probs: NDArray[np.float64] = weights / weights.sum()
        return probs

    def prob_of(self, token_id: int) -> float:
        """The draft probability of one token; 0 when the row does not hold it."""
        hits = (self.token_ids == token_id).nonzero()[0]
        return float(self.probs[hits[0]]) if len(hits) else 0.0
