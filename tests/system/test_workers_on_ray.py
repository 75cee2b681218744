"""Boards, a verifier and workers that a real Ray has placed: what dies there costs no letter."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from shared.errors import ModelError
from tests.support.ends.loopback import generate, loopback
from tests.support.ends.scripted import board
from tests.support.ends.waiting import eventually
from tests.support.ends.workers import placed_workers, programs_find_tests, service_of
from tests.support.programs.children import descendants_of
from tests.support.programs.ports import listening_addresses
from tests.support.programs.ray_processes import of_ray
from tests.system.test_workers import (
    MODES,
    PATIENCE_SECONDS,
    check_texts,
    request,
    texts_with_kills,
)
from tests.verifier.workers.on_ray.test_placed_worker import order_of
from tests.verifier.workers.test_remote_target import ROUND
from verifier.engine.many_workers import ManyWorkers
from verifier.workers.on_ray.keeper import LOCAL_RAY_MODULE, Keeper
from verifier.workers.on_ray.messages import RayPlace, Wanted
from verifier.workers.on_ray.placed_worker import PlacedWorker
from verifier.workers.on_ray.ray_program import RayProgram

pytest.importorskip("ray", reason="the extra `cluster` is not installed")

NUM_STREAMS = 6


@pytest.fixture(scope="module")
def ray() -> Iterator[tuple[RayPlace, RayProgram]]:
    """One Ray on loopback for all tests that leave it alive; it takes some seconds to start."""
    directory = Path(tempfile.mkdtemp(prefix="goodspeed-ray-"))  # sockets have short names
    token_file = directory / "token"
    token_file.touch(mode=0o600)
    token_file.write_text(secrets.token_hex(32))
    program = RayProgram("Ray", LOCAL_RAY_MODULE)
    with programs_find_tests():
        ready = program.start(RayPlace("", str(token_file), str(directory)))
    yield RayPlace(ready.address, str(token_file)), program
    program.close()
    shutil.rmtree(directory)


async def texts_while(
    sources: Sequence[PlacedWorker], disturb: Callable[[ManyWorkers], Awaitable[None]]
) -> list[str]:
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
    return not Path(f"/proc/{process_id}").exists()


def test_texts_are_equal_where_one_of_two_workers_is_killed(
    ray: tuple[RayPlace, RayProgram],
) -> None:
    with placed_workers(2, ray[0], delay_seconds=0.02) as sources:
        check_texts(asyncio.run(texts_with_kills(sources, 1)))


def test_a_ray_of_one_host_listens_on_loopback_and_lets_in_who_has_the_token(
    ray: tuple[RayPlace, RayProgram], monkeypatch: pytest.MonkeyPatch
) -> None:
    from verifier.keeper.open_cluster import lets_strangers_in

    place, program = ray
    assert program.process_id is not None
    found = listening_addresses([program.process_id, *descendants_of(program.process_id)])
    assert found
    assert {"127.0.0.1", "::ffff:7f00:1"} >= found
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", place.token_file)
    assert not lets_strangers_in(place.address)


@pytest.mark.slow
def test_the_keeper_of_a_ray_of_one_host_listens_on_loopback_too(
    ray: tuple[RayPlace, RayProgram],
) -> None:
    keeper = Keeper(msgspec.structs.replace(order_of("ports"), ray=ray[0]))
    with programs_find_tests():
        keeper.place(Wanted(0))
    process_ids = [number for number in keeper.process_ids if number is not None]
    assert process_ids
    assert {"127.0.0.1", "::ffff:7f00:1"} >= listening_addresses(process_ids)
    keeper.close()


@pytest.mark.slow
def test_a_ray_with_too_few_gpus_is_a_sentence(ray: tuple[RayPlace, RayProgram]) -> None:
    order = msgspec.structs.replace(order_of("few"), ray=ray[0], device="cuda", gpus_per_worker=2)
    keeper = Keeper(order)
    try:
        with pytest.raises(ModelError, match="2 workers want 4 GPUs, and Ray has 0 GPUs"):
            keeper.place(Wanted(0))
    finally:
        keeper.close()


_OPEN = """
import logging, sys, ray
where = {"_node_ip_address": "127.0.0.1", "_temp_dir": sys.argv[1]}
ray.init(num_cpus=1, include_dashboard=False, logging_level=logging.ERROR, **where)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_a_ray_that_lets_strangers_in_is_refused() -> None:
    from verifier.keeper.ray_environment import strangers_environment

    alone = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    with tempfile.TemporaryDirectory(prefix="goodspeed-ray-") as directory:
        token_file = Path(directory) / "token"
        token_file.write_text(secrets.token_hex(32))
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", _OPEN, directory]
        environment = strangers_environment() | alone
        with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe) as open_ray:
            assert open_ray.stdin is not None
            assert open_ray.stdout is not None
            place = RayPlace(open_ray.stdout.readline().decode().strip(), str(token_file))
            order = msgspec.structs.replace(order_of("test"), ray=place, is_local=False)
            keeper = Keeper(order)
            with pytest.raises(ModelError, match="lets in who has no token: start Ray with"):
                keeper.place(Wanted(0))
            keeper.close()
            open_ray.stdin.close()


@pytest.mark.slow
def test_rounds_go_on_without_the_keeper_and_the_next_one_finds_the_workers(
    ray: tuple[RayPlace, RayProgram],
) -> None:
    with placed_workers(2, ray[0], delay_seconds=0.02) as sources:

        async def lose_keeper_then_worker(workers: ManyWorkers) -> None:
            await rounds_go_on(workers)
            other = sources[1].process_id
            kill(sources[0].keeper.process_ids[0])
            await rounds_go_on(workers)
            assert [0, 0] == [worker.num_lost for worker in workers.workers]
            kill(sources[0].process_id)
            await eventually(lambda: workers.workers[0].num_lost == 1, PATIENCE_SECONDS)
            await eventually(lambda: workers.workers[0].is_serving, PATIENCE_SECONDS)
            assert (0, other) == (workers.workers[1].num_lost, sources[1].process_id)

        check_texts(asyncio.run(texts_while(sources, lose_keeper_then_worker)))


@pytest.mark.slow
def test_a_verifier_finds_the_workers_of_the_one_before_it_unless_it_orders_others(
    ray: tuple[RayPlace, RayProgram],
) -> None:
    process_ids = []
    for num_blocks in (512, 512, 1024):
        with placed_workers(1, ray[0], num_blocks=num_blocks) as (source,):
            target = source.reach()
            assert num_blocks == target.num_blocks
            assert target.run(ROUND).items
            process_ids.append(target.facts.process_id)
            target.close("the verifier ends")
    first, second, third = process_ids
    assert first == second != third
    assert has_ended(first)


@pytest.mark.slow
@pytest.mark.parametrize("program", ["gcs_server", "raylet"])
def test_rounds_go_on_where_ray_is_killed_and_it_is_started_anew_when_none_is_left(
    program: str,
) -> None:
    with placed_workers(2, delay_seconds=0.02) as sources:

        async def lose_ray_then_workers(workers: ManyWorkers) -> None:
            await rounds_go_on(workers)
            kill(of_ray(program, sources[0].keeper.process_ids[1]))
            await rounds_go_on(workers, 50)
            assert [0, 0] == [worker.num_lost for worker in workers.workers]
            for source in sources:
                kill(source.process_id)
            for worker in workers.workers:
                await eventually(lambda w=worker: w.num_lost == 1, PATIENCE_SECONDS)
                await eventually(lambda w=worker: w.is_serving, PATIENCE_SECONDS)

        check_texts(asyncio.run(texts_while(sources, lose_ray_then_workers)))
