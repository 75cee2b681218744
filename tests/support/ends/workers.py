"""Workers of a test: a scripted target behind a worker's port, in a thread or in a process."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from unittest.mock import patch

from tests.support.ends import worker_facts
from tests.support.ends.loopback import round_settings
from tests.support.ends.scripted import TARGET
from verifier.cost_curve.curve import CostCurve
from verifier.engine.many_workers import ManyWorkers
from verifier.engine.metrics import Metrics
from verifier.engine.service import ServiceLimits, VerifierService
from verifier.engine.worker import Worker, WorkerSource
from verifier.policies import DraftPolicy, FixedPolicy
from verifier.rounds.blocks import BlockPool
from verifier.rounds.planner import RoundPlanner, RoundSettings
from verifier.target.round import Round
from verifier.target.scripted_target import ScriptedTarget
from verifier.target.scripted_tokenizer import ScriptedTokenizer
from verifier.target.target import DeviceLost, TargetModel
from verifier.workers.local_worker import LocalWorker
from verifier.workers.on_ray.keeper import Keeper
from verifier.workers.on_ray.messages import KeeperOrder, RayPlace
from verifier.workers.on_ray.placed_worker import PlacedWorker
from verifier.workers.orders import WorkerOrder
from verifier.workers.remote_target import RemoteTarget, WorkerAddress, connect
from verifier.workers.worker_port import WorkerPort

SECRET = worker_facts.SECRET
NONE_JOINS: Mapping[str, WorkerSource] = MappingProxyType({})
OWN_RAY = RayPlace("", "")  # which is started for it alone
scripted_facts = worker_facts.scripted_facts


@dataclass
class ThreadWorker:
    """A worker in a thread of the test."""

    target: TargetModel
    name: str = "worker"
    weights: str = "scripted"
    secret: str = SECRET
    listening: socket.socket = field(init=False)
    port: WorkerPort = field(init=False)
    raised: list[DeviceLost] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        facts = scripted_facts(self.target, self.name, self.weights)
        self.port = WorkerPort(self.listening, self.secret, self.target, facts)
        self._thread = threading.Thread(target=self._serve, name="test-worker")
        self._thread.start()

    @property
    def address(self) -> WorkerAddress:
        return WorkerAddress(*self.listening.getsockname()[:2])

    def connect(
        self, deadline: Callable[[Round], float] = lambda round_: 5.0, started_at: int = 0
    ) -> RemoteTarget:
        return connect(self.address, self.secret, deadline, started_at)

    def close(self) -> None:
        self.port.stop()
        self._thread.join(10)
        self.listening.close()

    def _serve(self) -> None:
        try:
            self.port.serve()
        except DeviceLost as error:
            self.raised.append(error)


@contextmanager
def worker(target: TargetModel | None = None) -> Iterator[ThreadWorker]:
    """A worker while it is needed."""
    running = ThreadWorker(target or ScriptedTarget(TARGET))
    try:
        yield running
    finally:
        running.close()


class ThreadSource:
    """Implements `verifier.engine.worker.WorkerSource` over a worker in a thread."""

    def __init__(self, running: ThreadWorker, deadline: Callable[[Round], float]) -> None:
        self.running, self.deadline = running, deadline
        self.name = running.name
        self.is_closed = False
        self.awaited: threading.Event | None = None  # before it is reached again

    def reach(self, lost: RemoteTarget | None = None) -> RemoteTarget:
        if self.awaited is not None:
            self.awaited.wait(60.0)
        return self.running.connect(self.deadline)

    def close(self) -> None:
        self.is_closed = True


def local_worker(number: int = 0, **settings: object) -> LocalWorker:
    """A scripted worker in a process, not started yet."""
    return LocalWorker(
        WorkerOrder(f"worker {number}", SECRET, settings),
        [sys.executable, "-m", "tests.support.ends.kept_scripted"],
        {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        lambda round_: 10.0,
    )


@contextmanager
def programs_find_tests() -> Iterator[None]:
    """Programs that are started meanwhile may be of the tests."""
    path = os.pathsep.join(sys.path)
    with patch.dict(os.environ, {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}):
        yield


@contextmanager
def placed_workers(
    count: int,
    ray: RayPlace = OWN_RAY,
    *,
    is_local: bool = True,
    gpus_each: int = 0,
    **settings: object,
) -> Iterator[list[PlacedWorker]]:
    """Scripted workers that a Ray places, not started yet; `is_local`: one of this host alone."""
    order = KeeperOrder(
        ray=ray,
        is_local=is_local,
        namespace="test",
        numbers=tuple(range(count)),
        gpus_per_worker=max(gpus_each, 1),
        device="auto" if gpus_each else "cpu",
        worker=WorkerOrder("", SECRET, settings),
        worker_module="tests.support.ends.kept_scripted",
    )
    with programs_find_tests():
        keeper = Keeper(order)
        try:
            yield [PlacedWorker(number, keeper, lambda round_: 10.0) for number in range(count)]
        finally:
            keeper.close()


def service_of(
    sources: Sequence[WorkerSource],
    settings: RoundSettings | None = None,
    policy: Callable[[], DraftPolicy] = lambda: FixedPolicy(8),
    max_streams_per_device: int = 64,
    joining: Mapping[str, WorkerSource] = NONE_JOINS,
) -> VerifierService:
    """A verifier without a port over these workers; others may join, by where they are."""

    def worker_of(number: int, source: WorkerSource) -> Worker:
        target = source.reach(None)
        planner = RoundPlanner(
            settings or round_settings(),
            policy(),
            CostCurve.from_json(target.facts.curve),
            BlockPool(target.num_blocks, target.block_tokens),
        )
        return Worker(number, source, planner, target)

    workers = [worker_of(number, source) for number, source in enumerate(sources)]
    many = ManyWorkers(workers, lambda where, number: worker_of(number, joining[where]))
    target = workers[0].target
    context_tokens = target.context_tokens
    return VerifierService(
        workers[0].planner,
        target,
        ScriptedTokenizer(target.vocab_size),
        ServiceLimits(
            context_tokens=context_tokens,
            max_prompt_tokens=context_tokens,
            max_tokens=context_tokens,
            max_streams_per_device=max_streams_per_device,
            grace_seconds=60.0,
        ),
        Metrics(),
        workers=many,
    )
