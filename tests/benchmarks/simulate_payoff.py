"""How soon a verifier knows whether drafts pay, what that costs, and how often it errs, simulated.

`python -m tests.benchmarks.simulate_payoff [--tests 300]`: rounds of one or three streams, whose
times vary by themselves and drift together; a draft token is accepted at 0.6. Each test ends with
the first thing that is proven, or after 2,500 rounds.
"""

from __future__ import annotations

import math
import statistics
from random import Random
from typing import NamedTuple

import click

from verifier.scheduling.draft_trial import Arm
from verifier.scheduling.fleet_record import Standing
from verifier.scheduling.measured_payoff import MeasuredPayoff
from verifier.scheduling.round_facts import RoundFacts

ALONE_SECONDS = 0.0625
ACCEPTANCE, MOST_TOKENS = 0.6, 7
MOST_ROUNDS = 2500
KEPT_DRIFT = 0.97  # of a round's drift in the next one
NOISES = ((0.05, 0.05), (0.15, 0.1), (0.3, 0.2))  # of rounds by themselves, and of their drift
GAINS = (0.6, 0.8, 0.95, 1.05, 1.3, 1.7, 2.3)


class Ending(NamedTuple):
    """Of one test."""

    standing: Standing
    alone_rounds: int
    seconds: float


@click.command()
@click.option("--tests", "num_tests", default=300, show_default=True, help="Of each row.")
def main(num_tests: int) -> None:
    """Print a row for each world."""
    print("| noise, drift | drafts over none | streams | wrong | proven | rounds alone | seconds |")
    print("|---|---|---|---|---|---|---|")
    for noise, drift in NOISES:
        for gain in GAINS:
            for num_streams in (1, 3):
                ends = [ending(gain, noise, drift, num_streams, n) for n in range(num_tests)]
                _tell(f"{noise}, {drift}", gain, num_streams, ends)


def ending(gain: float, noise: float, drift: float, num_streams: int, seed: int) -> Ending:
    """What is proven first."""
    chance, payoff = Random(seed), MeasuredPayoff()
    devices = frozenset("abcdefgh"[:num_streams])
    mean_tokens = sum(ACCEPTANCE**depth for depth in range(MOST_TOKENS))
    slow = seconds = 0.0
    alone_rounds = 0
    for _ in range(MOST_ROUNDS):
        slow = KEPT_DRIFT * slow + drift * math.sqrt(1 - KEPT_DRIFT**2) * chance.gauss(0, 1)
        took = ALONE_SECONDS * math.exp(slow + noise * chance.gauss(0, 1))
        drafts = payoff.arm is Arm.DRAFTS
        num_tokens = num_streams
        if drafts:
            num_tokens = sum(_accepted(chance) for _ in devices)
            took *= mean_tokens / gain
        drafting = devices if drafts else frozenset[str]()
        facts = (took, num_tokens, num_streams, devices, drafting, False, True, drafts)
        payoff.observe(RoundFacts(*facts))
        alone_rounds += not drafts
        seconds += took
        if payoff.standing is not Standing.BELIEVED:
            break
    return Ending(payoff.standing, alone_rounds, seconds)


def _accepted(chance: Random) -> int:
    num_tokens = 1
    while num_tokens < MOST_TOKENS and chance.random() < ACCEPTANCE:
        num_tokens += 1
    return num_tokens


def _tell(noise: str, gain: float, num_streams: int, ends: list[Ending]) -> None:
    wrong = Standing.SLOWER if gain > 1.0 else Standing.FASTER
    shares = [
        statistics.fmean(end.standing is wrong for end in ends),
        statistics.fmean(end.standing is not Standing.BELIEVED for end in ends),
    ]
    print(
        f"| {noise} | {gain} | {num_streams} | {shares[0]:.4f} | {shares[1]:.3f} "
        f"| {statistics.median(end.alone_rounds for end in ends):.0f} "
        f"| {statistics.median(end.seconds for end in ends):.0f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
