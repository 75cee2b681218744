"""What is believed of boards that are hardly known."""

from __future__ import annotations

import numpy as np

from shared.speculation.goodput import FloatArray, IntArray

# Until so many positions of a board met the target it is taken for a good one: a first guess that
# is too low would never be put right where tokens are dear, or where boards rest by it.
OPTIMISTIC_POSITIONS = 8
OPTIMISTIC_RATE = 0.8


def believed_rates(acceptance_rates: FloatArray, num_observed: FloatArray | IntArray) -> FloatArray:
    """The acceptance rates, of boards that are hardly known those of good ones [num_streams]."""
    is_new = num_observed < OPTIMISTIC_POSITIONS
    return np.where(is_new, np.maximum(acceptance_rates, OPTIMISTIC_RATE), acceptance_rates)
