"""Times what policies decide in one round: `python -m tests.benchmarks.bench_allocate`.

The limits are 0.4 ms for 1,000 streams and 4 ms for 10,000.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np

from verifier.policies import (
    MEMORY_LENGTH,
    BudgetLimits,
    GoodspeedPolicy,
    LiveDrafts,
    OpenStreams,
    Outlook,
    RatePolicy,
    RoundTimes,
)

NUM_CALLS = 200
TOKENS_PER_STREAM = 4
MAX_LENGTH = 16
# What a token adds to a round, for each stream that waits for it: so some tokens pay, others not.
TOKEN_SECONDS = 0.01


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
    """Print one table row per number of streams and decision."""
    print(f"{'streams':>8} {'decision':>20} {'median ms':>10} {'p99 ms':>8}")
    for num_streams in (8, 100, 1_000, 10_000):
        generator = np.random.default_rng(num_streams)
        rates = generator.uniform(0.3, 0.97, num_streams)
        goodputs = generator.uniform(1.0, 6.0, num_streams)
        streams = OpenStreams(
            acceptance_rates=rates,
            num_observed=np.full(num_streams, 100.0),
            goodputs=goodputs,
            steady_goodputs=goodputs,
            weights=np.ones(num_streams),
            num_siblings=np.ones(num_streams, dtype=np.int64),
            max_lengths=np.full(num_streams, MAX_LENGTH),
            draft_token_seconds=np.full(num_streams, 0.01),
            best_chances=np.zeros(num_streams),
            waits=np.zeros(num_streams, dtype=np.bool_),
            round_trip_seconds=np.zeros(num_streams),
            memories=np.zeros((num_streams, MEMORY_LENGTH)),
        )
        seconds = 0.05 + TOKEN_SECONDS / num_streams * np.arange(MAX_LENGTH * num_streams + 1.0)
        outlook = Outlook(streams, RoundTimes(seconds, 0.06, 1), float(num_streams))
        limits = BudgetLimits(
            max_round_tokens=100 * num_streams, budget_tokens=None, slowdown_limit=0.05
        )
        num_live = generator.integers(0, 9, num_streams).tolist()
        ones = [1.0] * num_streams
        live = LiveDrafts(num_live, num_live, ones, [False] * num_streams, 1e9, 10**9)
        budget_tokens = TOKENS_PER_STREAM * num_streams
        decisions: dict[str, Callable[[], object]] = {
            "goodspeed, lengths": partial(GoodspeedPolicy().allocate, streams, budget_tokens),
            "rate, windows": partial(RatePolicy().plan, outlook, limits),
            "rate, live tokens": partial(RatePolicy().choose, live, lambda found=outlook: found),
        }
        for name, call in decisions.items():
            median, slow = call_seconds(call)
            print(f"{num_streams:>8} {name:>20} {median * 1e3:>10.3f} {slow * 1e3:>8.3f}")


if __name__ == "__main__":
    main()
