"""A worker in a process of this machine: started, watched, ended, started anew.

The process listens on loopback and ends when this one does. A process that was lost because a round
was late is ended first: two of them would not fit on one GPU.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from shared.errors import AuthRejected, HandshakeRejected, LinkLost
from verifier.target.round import Round
from verifier.workers.kept_process import WorkerProcess
from verifier.workers.orders import WorkerOrder
from verifier.workers.remote_target import RemoteTarget, WorkerAddress, connect

# Between attempts to reach a process.
PAUSE_SECONDS = 0.05
# Starts in a row that end before the worker has served; then the sentence says so.
MOST_FAILED_STARTS = 3


class LocalWorker:
    """Implements `verifier.engine.worker.WorkerSource`; `reach` and `close` may meet in threads."""

    def __init__(
        self,
        order: WorkerOrder,
        command: Sequence[str],
        environment: Mapping[str, str],
        round_deadline_seconds: Callable[[Round], float],
        check: Callable[[RemoteTarget], None] = lambda target: None,
    ) -> None:
        """`command` gets the number of its listening socket behind it; `check` may refuse facts."""
        self.name = order.name
        self._secret = order.secret
        self._process = WorkerProcess(order, command, environment)
        self._round_deadline_seconds = round_deadline_seconds
        self._check = check
        self._num_failed_starts = 0
        self._target: RemoteTarget | None = None
        self._is_closing = threading.Event()

    @property
    def address(self) -> WorkerAddress:
        """Where it listens, now and later."""
        return self._process.address

    @property
    def process_id(self) -> int | None:
        """Of the process that runs, if one does."""
        return self._process.process_id

    def start(self) -> None:
        """Let it load its target, without waiting for that."""
        self._process.start()

    def reach(self, lost: RemoteTarget | None = None) -> RemoteTarget:
        """See `WorkerSource.reach`; starts the process if none runs."""
        if lost is not None:
            if lost.is_stuck:
                self._process.end()
            self._process.see_end()
        self._process.start()
        while not self._is_closing.is_set():
            try:
                known = self._secret, self._round_deadline_seconds
                target = connect(
                    self.address, *known, check=self._check, is_loading=self._is_loading
                )
            except (LinkLost, AuthRejected, HandshakeRejected) as error:
                self._check_alive(error)
                self._is_closing.wait(PAUSE_SECONDS)
                continue
            self._num_failed_starts = 0
            self._target = target
            return target
        raise LinkLost("the verifier ends")

    def close(self) -> None:
        """End the process; `reach` gives up."""
        self._is_closing.set()
        if self._target is not None:  # a process does not end beneath a verifier that it serves
            self._target.close("the verifier ends")
        self._process.close()

    def _is_loading(self) -> bool:
        return self._process.is_running and not self._is_closing.is_set()

    def _check_alive(self, error: Exception) -> None:
        if self._process.is_running:
            return
        status = self._process.status
        self._process.end()
        self._num_failed_starts += 1
        raise LinkLost(ended_early(self.name, status, self._num_failed_starts)) from error


def ended_early(name: str, status: int | None, num_times: int) -> str:
    """What is said of a process that ended before it served, so many times in a row."""
    how = "" if status is None else f" with status {status}"
    sentence = f"{name} ended{how} before it served"
    if num_times >= MOST_FAILED_STARTS:
        sentence += f", {num_times} times; its own log says why"
    return sentence
