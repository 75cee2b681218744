"""Boards with a very small draft model beside a target of 40 ms rounds, in simulated time.

Acceptance comes in runs (two states, as `verifier.recording.runs_model` has them), and boards say
how sure they are where the policy asks. Seeds are the same for all arms; `--never-held` plays the
same without rounds that are held for drafts.

    python -m tests.benchmarks.simulate_fast_boards
"""

from __future__ import annotations

import itertools
from typing import get_args

import click
import numpy as np

from shared.protocol.messages import AcceptanceMode
from verifier.policies import PolicyName
from verifier.rounds.settings import RoundsSection
from verifier.scheduling import awaited
from verifier.sim.scenario import BoardGroup, Scenario, ScenarioSection, TargetSection
from verifier.sim.world import play

# About smollm2-18m on a PC's core, beside SmolLM2-135M in float32 on another one.
DRAFT_TOKENS_PER_SECOND, ROUND_TRIP_MS = 1090.0, 3.0
TARGET = TargetSection(fixed_milliseconds=39.0, token_milliseconds=1.0, jitter=0.05)
RATES, SHARES, PERSISTENCE = (0.93, 0.35), (0.5, 0.5), 0.8


def scenario_of(count: int, mode: AcceptanceMode, policy: PolicyName, seed: int) -> Scenario:
    """So many boards, of which each has one endless stream."""
    boards = BoardGroup(
        count=count,
        draft_tokens_per_second=DRAFT_TOKENS_PER_SECOND,
        round_trip_milliseconds=ROUND_TRIP_MS,
        mode=mode,
        confidence_rates=RATES,
        confidence_shares=SHARES,
        confidence_persistence=PERSISTENCE,
    )
    return Scenario(
        name="fast boards",
        run=ScenarioSection(seconds=30.0, seed=seed),
        target=TARGET,
        rounds=RoundsSection(policy=policy, measure_payoff=False),
        boards={"fast": boards},
    )


def figures(scenario: Scenario, *, drafts: bool = True) -> tuple[float, float, float]:
    """Tokens/s of a board, tokens a stream and round, draft tokens a round that tests any."""
    record = play(scenario, drafts=drafts).record
    tokens = float(record.tokens.sum())
    lengths = float(record.tested.sum()) / max(float(record.drafted_rounds.sum()), 1.0)
    per_second = tokens / scenario.run.seconds / scenario.num_boards
    return per_second, tokens / float(record.stream_rounds.sum()), lengths


@click.command()
@click.option("--seeds", "num_seeds", default=2)
@click.option("--boards", "counts", type=int, multiple=True, default=(1, 3, 8))
@click.option("--policy", "policies", multiple=True, default=("goodspeed", "rate"))
@click.option("--never-held", is_flag=True)
def main(
    num_seeds: int, counts: tuple[int, ...], policies: tuple[PolicyName, ...], never_held: bool
) -> None:
    """Print a row for each fleet."""
    if never_held:
        awaited.LARGEST_HELD_PART = -1.0  # type: ignore[misc]
    print("| boards | mode | policy | tokens/s | of target alone | tokens a round | draft length |")
    print("|---|---|---|---|---|---|---|")
    for count, mode in itertools.product(counts, get_args(AcceptanceMode)):
        seeds = range(1, num_seeds + 1)
        alone = [figures(scenario_of(count, mode, "rate", s), drafts=False)[0] for s in seeds]
        for policy in policies:
            runs = np.array([figures(scenario_of(count, mode, policy, s)) for s in seeds])
            gains = runs[:, 0] / np.array(alone)
            speed, per_round, length = runs.mean(axis=0)
            print(
                f"| {count} | {mode} | {policy} | {speed:.1f} "
                f"| {gains.mean():.3f} ({gains.min():.3f} to {gains.max():.3f}) "
                f"| {per_round:.2f} | {length:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
