"""Output tokens per round's time in coupled and in rejection, over many kinds of boards and links.

Simulated, in virtual time: scripted models, the product's own streams and planner.  By hand:
`python -m tests.benchmarks.simulate_modes` (two minutes).
"""

from __future__ import annotations

import statistics
from itertools import product
from typing import get_args

import click

from shared.protocol.messages import AcceptanceMode
from shared.speculation.sampling import SamplingParameters
from tests.support.network.slow_link import World, play
from verifier.policies import PolicyName

ROUND_SECONDS = (0.02, 0.06, 0.15)
DRAFT_TOKEN_SECONDS = (0.001, 0.003, 0.01, 0.03)
ROUND_TRIP_SECONDS = (0.0, 0.03, 0.1)
DISAGREEMENTS = (0.02, 0.1, 0.3)  # of the draft model; see `shared.speculation.scripted_model`
NUM_SEEDS = 2
NUM_TOKENS = 250
SAMPLING = SamplingParameters(0.8)


@click.command()
@click.option("--policy", type=click.Choice(get_args(PolicyName)), default="rate")
def main(policy: PolicyName) -> None:
    """Print coupled / rejection for every world."""
    print(f"tokens per round's time, coupled / rejection, by disagreement {DISAGREEMENTS}")
    print("| round ms | draft token ms | round trip ms | | | |")
    print("|---|---|---|---|---|---|")
    for times in product(ROUND_SECONDS, DRAFT_TOKEN_SECONDS, ROUND_TRIP_SECONDS):
        cells = " | ".join(_cell(policy, *times, disagreement) for disagreement in DISAGREEMENTS)
        print(f"| {' | '.join(f'{1e3 * seconds:g}' for seconds in times)} | {cells} |", flush=True)


def _cell(
    policy: PolicyName,
    round_seconds: float,
    draft_token_seconds: float,
    round_trip_seconds: float,
    disagreement: float,
) -> str:
    def tokens_per_round_time(mode: AcceptanceMode) -> float:
        worlds = [
            World(
                policy=policy,
                mode=mode,
                sampling=SAMPLING,
                disagreement=disagreement,
                round_trip_seconds=round_trip_seconds,
                round_seconds=round_seconds,
                draft_token_seconds=draft_token_seconds,
                num_tokens=NUM_TOKENS,
                seed=seed,
            )
            for seed in range(NUM_SEEDS)
        ]
        speed = statistics.fmean(play(world).tokens_per_second for world in worlds)
        return speed * worlds[0].seconds_of_round(1)

    return f"{tokens_per_round_time('coupled'):.2f} / {tokens_per_round_time('rejection'):.2f}"


if __name__ == "__main__":
    main()
