"""Rounds of legal items with one poisoned among them: `python -m tests.benchmarks.fuzz_sampling`.

Every item has random legal settings and rows, most of them at the edges of float32; the victim's
rows hold NaN or infinities, or nothing that may be drawn. In every round the victim must fail, and
each of the others must get what it gets without the victim, bit for bit, and what the float64
reference says. The first round where one does not ends the run, naming its number.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
import torch

from tests.support.models.sampling_rounds import (
    POISONS,
    EdgeItem,
    Logits,
    is_right,
    needed_rows,
    poison,
)
from verifier.target.round import DraftCheck, ItemFailure
from verifier.torch_target.sampling.verification import verify_rows


@dataclass(frozen=True)
class PoisonedRound:
    """One round and its victim."""

    items: list[EdgeItem]
    logits: list[Logits]
    checks: list[DraftCheck]
    victim: int

    @classmethod
    def of(cls, number: int, seed: int, num_items: int, vocab_size: int) -> PoisonedRound:
        """The round of a number, the same at every run."""
        random = np.random.default_rng([seed, number])
        items = [EdgeItem.random(random) for _ in range(num_items)]
        logits = [item.rows(vocab_size, random) for item in items]
        checks = [item.check(rows, random) for item, rows in zip(items, logits, strict=True)]
        victim = int(random.integers(num_items))
        kind = POISONS[number % len(POISONS)]
        poison(logits[victim][: checks[victim].num_logit_rows], kind, random)
        return cls(items, logits, checks, victim)

    def check(self, *, meets_reference: bool) -> None:
        """Compare its outcomes with those of the round without the victim.

        Raises:
            AssertionError: an item got something else than it should.
        """
        outcomes = verify_rows(torch.from_numpy(needed_rows(self.logits, self.checks)), self.checks)
        failed = outcomes.pop(self.victim)
        assert ItemFailure.NON_FINITE_LOGITS == failed.failure
        others = [i for i in range(len(self.items)) if i != self.victim]
        logits, checks = [self.logits[i] for i in others], [self.checks[i] for i in others]
        assert outcomes == verify_rows(torch.from_numpy(needed_rows(logits, checks)), checks)
        for i, outcome in zip(others, outcomes, strict=True):
            if meets_reference:
                written = self.items[i].written(self.logits[i].shape[1])
                is_same = is_right(outcome, self.logits[i], self.checks[i], written)
                assert is_same, (self.items[i], outcome)


def main() -> None:
    """Print how many rounds had no effect on the others."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=16, help="of a round, one of them poisoned")
    parser.add_argument("--vocab", type=int, default=300)
    parser.add_argument("--reference-every", type=int, default=10, help="rounds")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    started_at = time.monotonic()
    num_rounds = 0
    while num_rounds < options.rounds and time.monotonic() - started_at < options.seconds:
        round_ = PoisonedRound.of(num_rounds, options.seed, options.items, options.vocab)
        try:
            with torch.inference_mode():  # as a target runs
                round_.check(meets_reference=num_rounds % options.reference_every == 0)
        except Exception as error:
            error.add_note(f"in round {num_rounds} of seed {options.seed}")
            raise
        num_rounds += 1
    seconds = time.monotonic() - started_at
    num_others = num_rounds * (options.items - 1)
    print(f"{num_rounds:,} rounds of {options.items} items, one poisoned, in {seconds:.0f} s:")
    print(f"0 effects on {num_others:,} others")


if __name__ == "__main__":
    main()
