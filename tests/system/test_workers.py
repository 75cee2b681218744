"""Boards, a verifier and worker processes over real sockets: kill -9 costs no letter."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Sequence

import pytest

from edge_agent.generation.generation import GenerationRequest
from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.support.ends.loopback import chat, generate, loopback
from tests.support.ends.scripted import board, target_text
from tests.support.ends.waiting import eventually
from tests.support.ends.workers import service_of
from tests.verifier.engine.test_many_workers import process_workers
from verifier.workers.local_worker import LocalWorker
from verifier.workers.on_ray.placed_worker import PlacedWorker

NUM_TOKENS = 200
PATIENCE_SECONDS = 240.0
SAMPLED = SamplingParameters(0.8)


def request(number: int, mode: str) -> GenerationRequest:
    return GenerationRequest(
        messages=chat(f"hello {number}"),
        sampling=GREEDY if mode == "greedy" else SAMPLED,
        acceptance_mode="rejection" if mode == "rejection" else "coupled",
        seed=100 + number,
        max_tokens=NUM_TOKENS,
    )


MODES = ("greedy", "coupled", "rejection")


async def texts_with_kills(
    sources: Sequence[LocalWorker | PlacedWorker], num_kills: int
) -> list[str]:
    service = service_of(sources)
    workers = service.workers
    assert workers is not None
    draw = random.Random(3)
    requests = [request(i, MODES[i % 3]) for i in range(9)]
    async with loopback(service, [board() for _ in range(3)]) as (_, agents):
        asking = [
            asyncio.create_task(generate(agents[i // 3], asked)) for i, asked in enumerate(requests)
        ]
        for _ in range(num_kills):
            victim = draw.randrange(2)
            worker = workers.workers[victim]
            await eventually(lambda w=worker: w.is_serving and w.num_rounds > 3, PATIENCE_SECONDS)
            await asyncio.sleep(draw.uniform(0.05, 0.2))
            num_lost, killed = worker.num_lost, sources[victim].process_id
            assert killed is not None
            os.kill(killed, signal.SIGKILL)
            await eventually(lambda w=worker, n=num_lost: w.num_lost > n, PATIENCE_SECONDS)
        answers = await asyncio.gather(*asking)
    assert {"length"} == {finished.reason for _, finished in answers}
    for planner in workers.planners:
        planner.blocks.check_integrity()
    return [text for text, _ in answers]


@pytest.mark.parametrize("num_kills", [0, 3])
def test_texts_with_drafts_are_the_targets_own(num_kills: int) -> None:
    with process_workers(2, delay_seconds=0.02) as sources:
        texts = asyncio.run(texts_with_kills(sources, num_kills))
    check_texts(texts)


def check_texts(texts: Sequence[str]) -> None:
    """All but those of `rejection`, which hang on what the board drafted in time."""
    for i, text in enumerate(texts):
        if MODES[i % 3] != "rejection":
            assert target_text(request(i, MODES[i % 3])) == text
