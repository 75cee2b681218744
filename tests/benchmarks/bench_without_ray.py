"""Ray is killed beneath chats, or its keeper: how many rounds are lost in ten minutes, and after?

Boards, a verifier and two scripted workers that a Ray of this host has placed, over real sockets.
What is named is killed with kill -9 once all chats are under way, and nothing starts it again.

    python -m tests.benchmarks.bench_without_ray nothing keeper gcs_server raylet  # 40 minutes
    python -m tests.benchmarks.bench_without_ray gcs_server --minutes 1
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial

import click
import numpy as np

from shared.daemon.resources.interpreter_turns import short_turns
from tests.benchmarks.bench_kills import (
    MODES,
    NUM_BOARDS,
    PATIENCE_SECONDS,
    Chats,
    Found,
    note_rounds,
)
from tests.support.ends.loopback import loopback
from tests.support.ends.scripted import board
from tests.support.ends.waiting import eventually
from tests.support.ends.workers import placed_workers, service_of
from tests.support.programs.ray_processes import of_ray
from verifier.target.round import Round
from verifier.workers.on_ray.placed_worker import PlacedWorker

VICTIMS = ("nothing", "keeper", "gcs_server", "raylet")
WARM_UP_ROUNDS = 50


async def run(sources: Sequence[PlacedWorker], victim: str, seconds: float) -> bool:
    """Print one line; whether no round was lost and every text is right."""
    service, chats = service_of(sources), Chats(Found())
    workers = service.workers
    assert workers is not None
    rounds: list[list[float]] = [[] for _ in workers.workers]  # when each was over
    async with loopback(service, [board() for _ in range(NUM_BOARDS)]) as (_, agents):
        for worker, times in zip(workers.workers, rounds, strict=True):
            note_rounds(worker.engine, partial(_note, times))
        asking = [asyncio.create_task(chats.ask(agent, mode)) for agent in agents for mode in MODES]
        await eventually(lambda: min(map(len, rounds)) > WARM_UP_ROUNDS, PATIENCE_SECONDS)
        _kill(victim, sources[0])
        from_then_on = [len(times) for times in rounds]
        await asyncio.sleep(seconds)
        counted = [times[first:] for times, first in zip(rounds, from_then_on, strict=True)]
        num_lost = [worker.num_lost for worker in workers.workers]
        chats.is_over = True
        await asyncio.gather(*asking)
    print(f"| {victim} | {seconds / 60:.1f} | {_told(counted, num_lost, chats)} |", flush=True)
    for sentence in chats.found.wrong:
        print(sentence)
    return not any(num_lost) and not chats.found.wrong


def _note(times: list[float], _round: Round) -> None:
    times.append(time.monotonic())


def _kill(victim: str, source: PlacedWorker) -> None:
    keeper, ray = source.keeper.process_ids
    if victim == "nothing":
        return
    process_id = keeper if victim == "keeper" else of_ray(victim, ray)
    assert process_id is not None
    os.kill(process_id, signal.SIGKILL)


def _told(counted: Sequence[Sequence[float]], num_lost: Sequence[int], chats: Chats) -> str:
    cells = [" and ".join(f"{len(times):,}" for times in counted), str(sum(num_lost))]
    pauses = [np.diff(times) * 1e3 for times in counted]
    for share in (50, 99, 100):
        cells.append(" and ".join(f"{np.percentile(each, share):.0f}" for each in pauses))
    cells += [str(chats.found.num_texts), str(len(chats.found.wrong))]
    return " | ".join(cells)


@click.command()
@click.argument("victims", nargs=-1, required=True, type=click.Choice(VICTIMS))
@click.option("--minutes", default=10.0, show_default=True, help="After each kill.")
@click.option("--round-ms", default=25.0, show_default=True)
def main(victims: Sequence[str], minutes: float, round_ms: float) -> None:
    """Print a line for each; exit code 1 where a round is lost or a text is wrong."""
    logging.basicConfig(level=logging.ERROR)
    print(
        "| killed | minutes | rounds at each worker | lost | ms between two p50 | p99 | most ",
        end="",
    )
    print(f"| texts | wrong |\n|{'---|' * 9}", flush=True)
    are_well = []
    for victim in victims:
        with placed_workers(2, delay_seconds=round_ms / 1e3) as sources, short_turns():
            are_well.append(asyncio.run(run(sources, victim, 60.0 * minutes)))
    sys.exit(0 if all(are_well) else 1)


if __name__ == "__main__":
    main()
