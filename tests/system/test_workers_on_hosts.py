"""Workers at two hosts of a Ray, which are two addresses of this one: what is lost with a host."""

from __future__ import annotations

import asyncio

import pytest

from shared.errors import LinkLost
from tests.support.ends.waiting import eventually, wait_until
from tests.support.ends.workers import placed_workers, programs_find_tests
from tests.support.programs.ray_processes import HEAD, ray_hosts
from tests.system.test_workers import PATIENCE_SECONDS, check_texts
from tests.system.test_workers_on_ray import rounds_go_on, texts_while
from tests.verifier.workers.test_remote_target import ROUND
from verifier.engine.many_workers import ManyWorkers
from verifier.workers.on_ray.placed_worker import PlacedWorker

pytest.importorskip("ray", reason="the extra `cluster` is not installed")

SECOND, THIRD = "127.0.0.3", "127.0.0.4"


def refused(worker: PlacedWorker) -> str:
    """Why it has no place yet."""
    with pytest.raises(LinkLost) as caught:
        worker.reach()
    return str(caught.value)


@pytest.mark.slow
def test_a_lost_host_costs_no_letter_and_its_worker_is_placed_at_another() -> None:
    with (
        programs_find_tests(),
        ray_hosts(SECOND) as hosts,
        placed_workers(2, hosts.place, is_local=False, delay_seconds=0.02) as sources,
    ):

        async def lose_a_host(workers: ManyWorkers) -> None:
            at = {source.name.partition(" at ")[2].partition(":")[0]: source for source in sources}
            assert {HEAD, SECOND} == set(at)
            lost, kept = (workers.workers[at[host].number] for host in (SECOND, HEAD))
            await rounds_go_on(workers)
            hosts.lose(SECOND)
            await eventually(lambda: lost.num_lost == 1, PATIENCE_SECONDS)
            hosts.start(THIRD)
            await eventually(lambda: lost.is_serving, PATIENCE_SECONDS)
            assert f" at {THIRD}:" in at[SECOND].name
            assert 0 == kept.num_lost

        check_texts(asyncio.run(texts_while(sources, lose_a_host)))


@pytest.mark.slow
def test_a_worker_of_two_gpus_waits_until_one_host_has_both() -> None:
    with (
        programs_find_tests(),
        ray_hosts(SECOND, num_gpus=1) as hosts,
        placed_workers(1, hosts.place, is_local=False, gpus_each=2) as (source,),
    ):
        source._patience_looks = 1
        waits = "worker 0: it waits for 2 GPUs of one host; 2 of Ray's 2 are free"
        wait_until(lambda: refused(source) == waits, PATIENCE_SECONDS)  # once both have joined
        hosts.start(THIRD, num_gpus=2)
        source._patience_looks = 150
        target = source.reach()
        assert f" at {THIRD}:" in source.name
        assert target.run(ROUND).items
        target.close("the test is over")
