"""Workers of a test: a scripted target behind a worker's port, in a thread or in a process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from shared.protocol.fingerprint import fingerprint
from shared.speculation.model_defaults import PLAIN_DEFAULTS
from tests.support.ends.loopback import FLAT_CURVE
from tests.support.ends.scripted import TARGET
from verifier.target.round import Round
from verifier.target.scripted_target import ScriptedTarget
from verifier.target.scripted_tokenizer import ScriptedTokenizer
from verifier.target.target import DeviceLost, TargetModel
from verifier.workers.messages import PROOF_BYTES, Facts, Subject
from verifier.workers.remote_target import RemoteTarget, WorkerAddress, connect
from verifier.workers.worker_port import WorkerPort

SECRET = "a secret of sixteen characters and more"


def scripted_facts(target: TargetModel, name: str = "worker", weights: str = "scripted") -> Facts:
    """What a worker with this target says of itself."""
    tokenizer = ScriptedTokenizer(target.vocab_size)
    return Facts(
        proof=bytes(PROOF_BYTES),
        name=name,
        process_id=1,
        subject=Subject(
            target.model_name, weights, fingerprint(tokenizer.token_bytes), "float64", "none", True
        ),
        hardware="none",
        vocab_size=target.vocab_size,
        context_tokens=target.context_tokens,
        num_blocks=target.num_blocks,
        block_tokens=target.block_tokens,
        curve=FLAT_CURVE.to_json(),
        end_ids=tuple(sorted(tokenizer.end_ids)),
        defaults=PLAIN_DEFAULTS,
    )


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

    def connect(self, deadline: Callable[[Round], float] = lambda round_: 5.0) -> RemoteTarget:
        return connect(self.address, self.secret, deadline)

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
