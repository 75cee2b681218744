"""The proportionally fair optimum of barrier rounds, found without any scheduler.

Over all mixtures of draft lengths the goodput of client i is the concave line through mu_i(0),
mu_i(1), …, so the optimum of sum_i log x_i gives each client lengths, a fraction of a token too,
at which its slope over its goodput is one multiplier for all (GoodSpeed, arXiv 2512.09963,
equations 1 and 2). This module must never ask a policy.
"""

from __future__ import annotations

import numpy as np

from shared.speculation.goodput import FloatArray

# Halvings of the multiplier's logarithm: far below the rounding of what it leads to.
NUM_HALVINGS = 100


def optimal_goodputs(acceptance_rates: FloatArray, budget_tokens: int) -> FloatArray:
    """Tokens per round of each client [num_clients], rates being known and constant."""
    slots = np.arange(1, budget_tokens + 1)
    slopes = acceptance_rates[:, None] ** slots  # [num_clients, budget_tokens]
    begins = np.concatenate([np.ones((len(slopes), 1)), 1.0 + slopes.cumsum(axis=1)], axis=1)

    def goodputs_at(multiplier: float) -> tuple[FloatArray, float]:
        # Within slot s + 1 the goodput is begins[s] + f * slopes[s], and slopes[s] over it falls.
        parts = np.clip((slopes / multiplier - begins[:, :-1]) / slopes, 0.0, 1.0)
        return 1.0 + (parts * slopes).sum(axis=1), float(parts.sum())

    low, high = np.log(1e-9), 0.0
    for _ in range(NUM_HALVINGS):
        middle = 0.5 * (low + high)
        _, num_tokens = goodputs_at(float(np.exp(middle)))
        low, high = (middle, high) if num_tokens > budget_tokens else (low, middle)
    return goodputs_at(float(np.exp(high)))[0]
