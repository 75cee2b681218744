"""A worker is reached wherever the keeper says that it is, and the keeper is started anew.

The keeper is scripted: it needs no Ray, and its workers are its own children.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from shared.errors import LinkLost, ModelError
from tests.support.ends.waiting import wait_until
from tests.support.ends.workers import SECRET, programs_find_tests
from tests.verifier.workers.test_remote_target import ROUND
from verifier.target.target import TargetLost
from verifier.workers.on_ray import keeper as keeper_module
from verifier.workers.on_ray.keeper import Keeper
from verifier.workers.on_ray.messages import KeeperOrder, RayPlace
from verifier.workers.on_ray.placed_worker import PlacedWorker
from verifier.workers.orders import WorkerOrder
from verifier.workers.remote_target import RemoteTarget


def order_of(namespace: str, **settings: object) -> KeeperOrder:
    return KeeperOrder(
        ray=RayPlace("nowhere:1", "token"),
        is_local=True,
        namespace=namespace,
        numbers=(0, 1),
        gpus_per_worker=1,
        device="cpu",
        worker=WorkerOrder("", SECRET, settings),
        worker_module="tests.support.ends.kept_scripted",
    )


@contextmanager
def kept(namespace: str = "test", **settings: object) -> Iterator[Keeper]:
    with programs_find_tests():
        keeper = Keeper(order_of(namespace, **settings), "tests.support.ends.scripted_keeper")
        try:
            yield keeper
        finally:
            keeper.close()


def worker_of(keeper: Keeper, number: int = 0, **options: int) -> PlacedWorker:
    return PlacedWorker(number, keeper, lambda round_: 1.0, **options)


def kill(process_id: int | None, how: signal.Signals = signal.SIGKILL) -> None:
    assert process_id is not None
    os.kill(process_id, how)


def has_ended(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return True
    return False


def lose(target: RemoteTarget) -> None:
    with pytest.raises(TargetLost):
        target.run(ROUND)


def test_a_killed_worker_is_started_anew_and_a_frozen_one_ended_first() -> None:
    with kept("waits") as keeper:
        worker = worker_of(keeper)
        assert "worker 0" == worker.name
        target = worker.reach()
        assert worker.name.startswith("worker 0 at 127.0.0.1:")
        assert target.run(ROUND).items
        first = target.facts.process_id
        kill(first)
        lose(target)
        target = worker.reach(target)
        assert worker.process_id == target.facts.process_id != first
        kill(worker.process_id, signal.SIGSTOP)
        lose(target)
        again = worker.reach(target)
        assert again.run(ROUND).items
        assert has_ended(target.facts.process_id)
        again.close("the test is over")


def test_rounds_go_on_without_the_keeper_and_end_with_the_verifier() -> None:
    with kept() as keeper:
        first, second = worker_of(keeper, 0), worker_of(keeper, 1)
        targets = [first.reach(), second.reach()]
        kill(keeper.process_ids[0])
        for _ in range(3):
            assert all(target.run(ROUND).items for target in targets)
        targets[0].close("lost")
        wait_until(lambda: has_ended(targets[0].facts.process_id))
        again = first.reach(targets[0])  # by another keeper
        assert again.run(ROUND).items
        assert targets[1].run(ROUND).items
        for target in (again, targets[1]):
            target.close("the test is over")
        wait_until(lambda: has_ended(targets[1].facts.process_id))


def test_what_the_keeper_refuses_is_the_sentence() -> None:
    with kept("refuses") as keeper, pytest.raises(ModelError, match=r"workers\.ray: no way in"):
        worker_of(keeper).reach()


def test_where_ray_has_no_place_that_is_the_sentence_after_a_while() -> None:
    with kept("never") as keeper, pytest.raises(LinkLost, match="worker 0: it waits for 2 GPUs"):
        worker_of(keeper, patience_looks=2).reach()


def test_a_keeper_that_does_not_answer_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_module, "ANSWER_SECONDS", 0.2)
    with kept("silent") as keeper:
        with pytest.raises(LinkLost, match="the keeper did not answer for 0 s"):
            worker_of(keeper).reach()
        assert [None] == keeper.process_ids


def test_a_worker_that_ends_before_it_serves_is_told_of_in_a_sentence() -> None:
    with kept(fails=True) as keeper, pytest.raises(LinkLost, match="ended before it served"):
        worker_of(keeper).reach()


def test_nothing_is_reached_once_the_verifier_ends() -> None:
    with kept() as keeper:
        keeper.close()
        with pytest.raises(LinkLost, match="the verifier ends"):
            worker_of(keeper).reach()
