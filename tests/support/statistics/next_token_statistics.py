"""Whether sampled tokens follow the target's probabilities: chi-square over all contexts at once.

The model looks at one token only, so counts of (context, next) and of (context, next, the one
after) say everything about it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

# Below it the sum of squares is no chi-square; such cells of a context are counted as one.
SMALLEST_EXPECTED = 5.0

Counts = NDArray[np.int64]


class TokenCounts:
    """Counts of next tokens, and of two tokens that follow a context, for one vocabulary."""

    def __init__(self, vocab_size: int) -> None:
        self.ones = np.zeros((vocab_size, vocab_size), dtype=np.int64)  # [context, next]
        self.twos = np.zeros((vocab_size,) * 3, dtype=np.int64)  # [context, next, after]

    def add(self, last_prompt_id: int, output_ids: Sequence[int]) -> None:
        """Count one text; pairs do not overlap, so that they are independent."""
        tokens = np.array([last_prompt_id, *output_ids])
        np.add.at(self.ones, (tokens[:-1], tokens[1:]), 1)
        contexts, firsts, seconds = tokens[:-2:2], tokens[1:-1:2], tokens[2::2]
        np.add.at(self.twos, (contexts, firsts, seconds), 1)

    @property
    def num_tokens(self) -> int:
        return int(self.ones.sum())

    def p_values(self, probs: NDArray[np.float64]) -> tuple[float, float]:
        """Chance of a worse fit than this one to `probs` [context, next]: of one token, of two."""
        pairs = probs[:, :, None] * probs[None, :, :]
        size = len(probs)
        return (
            p_value(zip(self.ones, probs, strict=True)),
            p_value(zip(self.twos.reshape(size, -1), pairs.reshape(size, -1), strict=True)),
        )


def p_value(rows: Iterable[tuple[Counts, NDArray[np.float64]]]) -> float:
    """Chi-square of independent rows, each with its counts and the probabilities behind them."""
    statistic, num_free = 0.0, 0
    for counts, probs in rows:
        expected = counts.sum() * probs
        if counts[probs == 0].any():
            return 0.0
        is_large = expected >= SMALLEST_EXPECTED
        seen = np.append(counts[is_large], counts[~is_large].sum())
        wanted = np.append(expected[is_large], expected[~is_large].sum())
        if wanted[-1] < SMALLEST_EXPECTED:
            seen, wanted = _with_last_two_joined(seen), _with_last_two_joined(wanted)
        if len(wanted) < 2:
            continue
        statistic += float(((seen - wanted) ** 2 / wanted).sum())
        num_free += len(wanted) - 1
    return _chi_square_tail(statistic, num_free)


def _with_last_two_joined(numbers: NDArray[np.generic]) -> NDArray[np.generic]:
    return np.append(numbers[:-2], numbers[-2:].sum())


def _chi_square_tail(statistic: float, num_free: int) -> float:
    """By the cube root of Wilson and Hilferty 1931; close for the 100 and more used here."""
    assert num_free >= 30, f"{num_free} degrees of freedom are too few for a normal number"
    spread = 2.0 / (9.0 * num_free)
    deviation = ((statistic / num_free) ** (1.0 / 3.0) - (1.0 - spread)) / math.sqrt(spread)
    return 0.5 * math.erfc(deviation / math.sqrt(2.0))
