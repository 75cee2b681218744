"""GoodSpeed's scheduler, solved exactly: proportionally fair goodput per round.

Each round it maximises sum_i (w_i / X_i) * mu_i(S_i) subject to sum_i S_i <= C, where mu_i is
`goodput.expected_tokens` (GoodSpeed, arXiv 2512.09963, equation 5 with logarithmic utility).
The slot s + 1 of stream i adds w_i * a_i^(s+1) / X_i, less with every slot, so the best C slots
of all are the optimum. In logarithms a stream's slots are points on a falling line, and a
threshold tells by one division how many of them lie above it: numpy brackets the threshold, and
only the slots inside the bracket are compared one by one.
This module must never know where an estimate comes from.
"""

from __future__ import annotations

import numpy as np

from shared.speculation.goodput import FloatArray, IntArray
from verifier.policies.budgeted import BudgetedPolicy
from verifier.policies.draft_policy import OpenStreams

# Halvings of the bracket. It stops earlier as soon as the bracket holds one slot per stream on
# average, after 5-15; equal streams can keep it wider, which costs time and never exactness.
MAX_HALVINGS = 48

# Keeps logarithms finite and slopes below zero whatever comes in. Far from every estimate.
TINY = 1e-12


class GoodspeedPolicy(BudgetedPolicy):
    """Allocates by the gradient of sum_i w_i log X_i."""

    def allocate(self, streams: OpenStreams, budget_tokens: int) -> IntArray:
        """See `BudgetedPolicy`; equal gains go to the stream that is listed first."""
        return allocate_arrays(
            streams.acceptance_rates,
            streams.goodputs,
            streams.weights,
            streams.max_lengths,
            budget_tokens,
        )


def allocate_arrays(
    acceptance_rates: FloatArray,  # [num_streams]
    goodputs: FloatArray,  # [num_streams]
    weights: FloatArray,  # [num_streams]
    max_lengths: IntArray,  # [num_streams]
    budget_tokens: int,
) -> IntArray:
    """The exact draft lengths of `GoodspeedPolicy` for streams given as arrays."""
    if max_lengths.sum() <= budget_tokens:
        return max_lengths.copy()
    if budget_tokens <= 0:
        return np.zeros_like(max_lengths)
    log_rates = np.log(np.clip(acceptance_rates, TINY, 1.0 - TINY))
    log_priorities = np.log(np.maximum(weights, TINY) / np.maximum(goodputs, TINY))
    surely, possibly = _bracket(log_rates, log_priorities, max_lengths, budget_tokens)
    return _fill(log_rates, log_priorities, surely, possibly, budget_tokens)


def _bracket(
    log_rates: FloatArray, log_priorities: FloatArray, max_lengths: IntArray, budget_tokens: int
) -> tuple[IntArray, IntArray]:
    """Lengths that lie surely below and surely above the optimum, stream by stream."""
    slots_per_unit = -1.0 / log_rates
    offsets = log_priorities * slots_per_unit
    limits = max_lengths.astype(np.float64)

    def slots_above(log_threshold: float) -> FloatArray:
        slots = offsets - log_threshold * slots_per_unit
        return np.floor(np.minimum(np.maximum(slots, 0.0), limits))

    high = float(log_priorities.max())  # no slot lies above it
    low = float((log_priorities + log_rates * limits).min())  # every slot does, but for the last
    fewest, most = np.zeros_like(limits), limits
    num_fewest, num_most = 0.0, float(limits.sum())
    for _ in range(MAX_HALVINGS):
        if num_most - num_fewest <= len(limits):
            break
        middle = 0.5 * (low + high)
        slots = slots_above(middle)
        num_slots = float(slots.sum())
        if num_slots <= budget_tokens:
            high, fewest, num_fewest = middle, slots, num_slots
        else:
            low, most, num_most = middle, slots, num_slots
    # A slot next to the threshold may be on the wrong side by rounding: keep it in doubt.
    surely = np.maximum(fewest - 1.0, 0.0).astype(np.int64)
    possibly = np.minimum(most + 1.0, limits).astype(np.int64)
    return surely, possibly


def _fill(
    log_rates: FloatArray,
    log_priorities: FloatArray,
    surely: IntArray,
    possibly: IntArray,
    budget_tokens: int,
) -> IntArray:
    """`surely` plus the best of the slots up to `possibly`, as many as the budget has."""
    num_open = budget_tokens - int(surely.sum())
    num_candidates = possibly - surely
    stream_of = np.repeat(np.arange(len(surely)), num_candidates)
    first_candidate = np.cumsum(num_candidates) - num_candidates
    slot_of = np.arange(len(stream_of)) - (first_candidate - surely - 1)[stream_of]
    log_gains = log_priorities[stream_of] + slot_of * log_rates[stream_of]
    threshold = np.partition(log_gains, len(log_gains) - num_open)[len(log_gains) - num_open]
    is_better = log_gains > threshold
    # Candidates are ordered by stream, so equal gains go to the first streams.
    ties = np.flatnonzero(log_gains == threshold)[: num_open - int(is_better.sum())]
    streams_of_best = np.concatenate([stream_of[is_better], stream_of[ties]])
    granted: IntArray = surely + np.bincount(streams_of_best, minlength=len(surely))
    return granted
