"""Times one allocation of the GoodSpeed policy: `python -m tests.benchmarks.bench_allocate`.

The limits are 0.4 ms for 1,000 streams and 4 ms for 10,000.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np

from verifier.policies.goodspeed import allocate_arrays

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
    """Print one table row per number of streams."""
    print(f"{'streams':>8} {'median ms':>10} {'p99 ms':>8}")
    for num_streams in (8, 100, 1_000, 10_000):
        generator = np.random.default_rng(num_streams)
        call = partial(
            allocate_arrays,
            generator.uniform(0.3, 0.97, num_streams),
            generator.uniform(1.0, 6.0, num_streams),
            np.ones(num_streams),
            np.full(num_streams, MAX_LENGTH),
            TOKENS_PER_STREAM * num_streams,
        )
        median, slow = call_seconds(call)
        print(f"{num_streams:>8} {median * 1e3:>10.3f} {slow * 1e3:>8.3f}")


if __name__ == "__main__":
    main()
