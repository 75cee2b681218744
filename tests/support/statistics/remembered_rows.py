"""Probabilities of rows of logits that come again and again, computed once for each sampling.

The same numbers: a model that looks at one token has as many rows as tokens, and a test of many
samples would compute the same few of them a hundred thousand times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from shared.speculation.sampling import SamplingParameters

Made = TypeVar("Made")
OfRow = Callable[[NDArray[np.float32], SamplingParameters], Made]


def remembered(make: OfRow[Made]) -> OfRow[Made]:
    """`make`, which makes its arrays once for each row and sampling; they are read-only."""
    known: dict[tuple[bytes, SamplingParameters], Made] = {}

    def look_up(logits: NDArray[np.float32], sampling: SamplingParameters) -> Made:
        key = logits.tobytes(), sampling
        if key not in known:
            known[key] = made = make(logits, sampling)
            for array in made if isinstance(made, tuple) else (made,):
                array.flags.writeable = False
        return known[key]

    return look_up
