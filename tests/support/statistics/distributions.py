"""Small distributions for tests of sampling and speculation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared.speculation.quantised_row import quantise
from shared.speculation.sparse_row import SparseRow


def distribution(weights: Sequence[float]) -> NDArray[np.float64]:
    """The weights over their sum."""
    return np.array(weights, dtype=np.float64) / sum(weights)


def row_of(weights: Sequence[float], max_entries: int = 32) -> SparseRow:
    """What a board makes of its probabilities."""
    probs = distribution(weights)
    order = np.argsort(-probs, kind="stable")
    order = order[: np.count_nonzero(probs)]
    return quantise(order, probs[order], max_entries)
