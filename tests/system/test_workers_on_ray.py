"""Boards, a verifier and workers that a real Ray has placed: what dies there costs no letter."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.ends.loopback import generate, loopback
from tests.support.ends.scripted import board
from tests.support.ends.waiting import eventually
from tests.support.ends.workers import placed_workers, programs_find_tests, service_of
from tests.system.test_workers import (
    MODES,
    PATIENCE_SECONDS,
    check_texts,
    request,
    texts_with_kills,
)
from verifier.engine.many_workers import ManyWorkers
from verifier.workers.on_ray.keeper import LOCAL_RAY_MODULE
from verifier.workers.on_ray.messages import RayPlace
from verifier.workers.on_ray.placed_worker import PlacedWorker
from verifier.workers.on_ray.ray_program import RayProgram

pytest.importorskip("ray", reason="the extra `cluster` is not installed")

NUM_STREAMS = 6


@pytest.fixture(scope="module")
def ray() -> Iterator[RayPlace]:
    """One Ray on loopback for all tests that leave it alive; it takes some seconds to start."""
    directory = Path(tempfile.mkdtemp(prefix="goodspeed-ray-"))  # sockets have short names
    token_file = directory / "token"
    token_file.touch(mode=0o600)
    token_file.write_text(secrets.token_hex(32))
    program = RayProgram("Ray", LOCAL_RAY_MODULE)
    with programs_find_tests():
        ready = program.start(RayPlace("", str(token_file), str(directory)))
    yield RayPlace(ready.address, str(token_file))
    program.close()
    shutil.rmtree(directory)


async def texts_while(sources: Sequence[PlacedWorker], disturb) -> list[str]:
    """Of chats in which `disturb(workers)` happens."""
    service = service_of(sources)
    workers = service.workers
    assert workers is not None
    async with loopback(service, [board() for _ in range(3)]) as (_, agents):
        asking = [
            asyncio.create_task(generate(agents[i % 3], request(i, MODES[i % 3])))
            for i in range(NUM_STREAMS)
        ]
        await disturb(workers)
        return [text for text, _ in await asyncio.gather(*asking)]


async def rounds_go_on(workers: ManyWorkers, num_rounds: int = 5) -> None:
    """At all of them."""
    before = [worker.num_rounds for worker in workers.workers]
    await eventually(
        lambda: all(
            worker.num_rounds >= n + num_rounds
            for worker, n in zip(workers.workers, before, strict=True)
        ),
        PATIENCE_SECONDS,
    )


def kill(process_id: int | None) -> None:
    assert process_id is not None
    os.kill(process_id, signal.SIGKILL)


def has_ended(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return True
    return False


def wait_until_ended(process_id: int, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not has_ended(process_id):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_texts_are_equal_where_one_of_two_workers_is_killed(ray: RayPlace) -> None:
    with placed_workers(2, ray, delay_seconds=0.02) as sources:
        check_texts(asyncio.run(texts_with_kills(sources, 2)))


def test_rounds_go_on_without_the_keeper_and_the_next_one_finds_the_workers(ray: RayPlace) -> None:
    with placed_workers(2, ray, delay_seconds=0.02) as sources:

        async def lose_keeper_then_worker(workers: ManyWorkers) -> None:
            await rounds_go_on(workers)
            others = sources[1].process_id
            kill(sources[0].keeper.process_ids[0])
            await rounds_go_on(workers, 20)
            assert [0, 0] == [worker.num_lost for worker in workers.workers]
            kill(sources[0].process_id)
            await eventually(lambda: workers.workers[0].num_lost == 1, PATIENCE_SECONDS)
            await eventually(lambda: workers.workers[0].is_serving, PATIENCE_SECONDS)
            assert (0, others) == (workers.workers[1].num_lost, sources[1].process_id)

        check_texts(asyncio.run(texts_while(sources, lose_keeper_then_worker)))
