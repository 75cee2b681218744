"""Times one allocation of the GoodSpeed policy: `python -m tests.benchmarks.bench_allocate`.

The limits are 1 ms for 1,000 streams and 10 ms for 10,000, from a list of `StreamShare`s.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np

from verifier.policies.draft_length_policy import StreamShare
from verifier.policies.goodspeed import GoodspeedPolicy, allocate_arrays

NUM_CALLS = 300
TOKENS_PER_STREAM = 4
MAX_LENGTH = 16


def call_seconds(call: Callable[[], object]) -> tuple[float, float]:
    """Return the median and the 99th percentile of `NUM_CALLS` calls."""
    seconds = []
    for _ in range(NUM_CALLS):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    median, slow = np.percentile(seconds, [50, 99])
    return float(median), float(slow)


def main() -> None:
    """Print one table row per number of streams and form of the call."""
    print(f"{'streams':>8} {'form':>8} {'median ms':>10} {'p99 ms':>8}")
    for num_streams in (8, 100, 1_000, 10_000):
        generator = np.random.default_rng(num_streams)
        rates = generator.uniform(0.3, 0.97, num_streams)
        goodputs = generator.uniform(1.0, 6.0, num_streams)
        weights = np.ones(num_streams)
        max_lengths = np.full(num_streams, MAX_LENGTH)
        streams = [
            StreamShare(acceptance_rate=rate, goodput=goodput, max_length=MAX_LENGTH)
            for rate, goodput in zip(rates.tolist(), goodputs.tolist(), strict=True)
        ]
        budget_tokens = TOKENS_PER_STREAM * num_streams
        forms: dict[str, Callable[[], object]] = {
            "list": partial(GoodspeedPolicy().allocate, streams, budget_tokens),
            "arrays": partial(
                allocate_arrays, rates, goodputs, weights, max_lengths, budget_tokens
            ),
        }
        for form, call in forms.items():
            median, slow = call_seconds(call)
            print(f"{num_streams:>8} {form:>8} {median * 1e3:>10.3f} {slow * 1e3:>8.3f}")


if __name__ == "__main__":
    main()
