"""Sampling of flat rows beside peaked ones: `python -m tests.benchmarks.bench_flat_rows`.

One call of the sampler for a round's rows, in one thread, in milliseconds of that thread.
The token of rank r has logit -3 log(r): 0.99999 of the mass lies in 200 tokens at temperature 1,
in nearly all of them at 100. The forms take turns, so that what else the machine does falls on all.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch

from shared.speculation.sampling import SamplingParameters
from shared.speculation.sparse_row import SparseRow
from tests.support.models.sampling_rounds import drafted
from verifier.target.round import DraftCheck
from verifier.torch_target.sampling.verification import verify_rows

FORMS = {
    "greedy": SamplingParameters(0.0, 0, 1.0),
    "temperature 1, top_p 0.95": SamplingParameters(1.0, 0, 0.95),
    "temperature 1, top_p 0.99999": SamplingParameters(1.0, 0, 0.99999),
    "temperature 1": SamplingParameters(1.0, 0, 1.0),
    "temperature 100, top_k 50": SamplingParameters(100.0, 50, 1.0),
    "temperature 100, top_k 100,000": SamplingParameters(100.0, 100_000, 1.0),
    "temperature 100, top_p 0.5": SamplingParameters(100.0, 0, 0.5),
    "temperature 100, top_p 0.99999": SamplingParameters(100.0, 0, 0.99999),
    "temperature 100": SamplingParameters(100.0, 0, 1.0),
}
PEAKED = "temperature 1, top_p 0.99999"


def main() -> None:
    """Print milliseconds of a call, and how many times those of the peaked rows they are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--vocab", type=int, default=151_936)
    parser.add_argument("--drafts", type=int, default=3, help="draft tokens of a stream")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--forms", nargs="*", default=list(FORMS), choices=list(FORMS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    random = np.random.default_rng(1)
    ranks = random.permuted(np.tile(np.arange(options.vocab), (options.rows, 1)), axis=1)
    logits = (-3 * np.log1p(ranks)).astype(np.float32)
    rounds = {
        (mode, form): _checks(logits, mode, FORMS[form], options.drafts)
        for mode in ("coupled", "rejection")
        for form in options.forms
    }
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in rounds}
    tensor = torch.from_numpy(logits)
    for _ in range(options.turns):
        for key, checks in rounds.items():
            started_at = time.thread_time()
            verify_rows(tensor, checks)
            seconds[key].append(time.thread_time() - started_at)
    print(f"{options.rows} rows of {options.vocab:,}, ms of one thread")
    for (mode, form), times in seconds.items():
        middle, base = statistics.median(times), statistics.median(seconds[mode, PEAKED])
        spread = f"{min(times) * 1e3:.1f} to {max(times) * 1e3:.1f}"
        print(f"{mode:10} {form:32} {middle * 1e3:8.1f} ({spread}), {middle / base:6.2f} times")


def _checks(
    logits: np.ndarray, mode: str, sampling: SamplingParameters, num_drafts: int
) -> list[DraftCheck]:
    """One check for each stream, its drafts from nearly the same logits, all accepted or not."""
    spans = [logits[i : i + num_drafts + 1] for i in range(0, len(logits), num_drafts + 1)]
    checks = []
    for seed, span in enumerate(spans):
        random = np.random.default_rng(seed)
        if mode == "coupled":
            token_ids = tuple(int(t) for t in random.integers(len(span[0]), size=len(span) - 1))
            rows: tuple[SparseRow, ...] = ()
            checks.append(
                DraftCheck(token_ids, rows, "coupled", sampling, seed, 7, draws_bonus=True)
            )
        else:
            checks.append(drafted(span, "rejection", sampling, seed, True, random))
    return checks


if __name__ == "__main__":
    main()
