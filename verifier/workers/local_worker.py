"""A worker in a process of this machine: started, watched, ended, started anew.

The process listens on loopback at a socket that this one made, so its address stays the same
however often it is started. It ends when this process does. A process that was lost because a round
was late is ended first: two of them would not fit on one GPU.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence

from shared.errors import AuthRejected, HandshakeRejected, LinkLost, ModelError
from verifier.target.round import Round
from verifier.workers.orders import WorkerOrder, pack_order
from verifier.workers.remote_target import RemoteTarget, WorkerAddress, connect

logger = logging.getLogger(__name__)

# Between attempts to reach a process that loads its model.
PAUSE_SECONDS = 0.05
# A process that was asked to end, or was closed out, gets this long.
END_SECONDS = 5.0
# Within so long the end of a killed process was seen here (2 busy cores, 2026-11: up to 0.1 s).
END_SEEN_SECONDS = 0.5
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
        self._order = order
        self._command = tuple(command)
        self._environment = dict(environment)
        self._round_deadline_seconds = round_deadline_seconds
        self._check = check
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._process: subprocess.Popen[bytes] | None = None
        self._num_failed_starts = 0
        self._is_closing = threading.Event()
        self._lock = threading.RLock()  # of the process

    @property
    def address(self) -> WorkerAddress:
        """Where it listens, now and later."""
        host, port = self._listening.getsockname()[:2]
        return WorkerAddress(host, port)

    @property
    def process_id(self) -> int | None:
        """Of the process that runs, if one does."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Let it load its target, without waiting for that."""
        with self._lock:
            if not self._is_closing.is_set() and not self._is_running():
                self._start()

    def reach(self, lost: RemoteTarget | None = None) -> RemoteTarget:
        """See `WorkerSource.reach`; starts the process if none runs."""
        if lost is not None:
            self._end_or_find_alive(lost)
        self.start()
        while not self._is_closing.is_set():
            try:
                target = connect(self.address, self._order.secret, self._round_deadline_seconds)
            except (LinkLost, AuthRejected, HandshakeRejected) as error:
                # A process that loads answers late; its socket takes connections all the same.
                self._check_alive(error)
                self._is_closing.wait(PAUSE_SECONDS)
                continue
            try:
                self._check(target)
            except ModelError:
                target.close("it is not what the others are")
                raise
            self._num_failed_starts = 0
            return target
        raise LinkLost("the verifier ends")

    def close(self) -> None:
        """End the process; `reach` gives up."""
        self._is_closing.set()
        self._end()
        self._listening.close()

    def _end_or_find_alive(self, lost: RemoteTarget) -> None:
        """A process that ended closes its connection a moment before its end can be seen."""
        if lost.is_stuck:
            self._end()
        with self._lock, contextlib.suppress(subprocess.TimeoutExpired):
            if self._process is not None:
                self._process.wait(END_SEEN_SECONDS)

    def _start(self) -> None:
        self._end()  # one that ended by itself
        number = self._listening.fileno()
        process = subprocess.Popen(
            [*self._command, str(number)],
            stdin=subprocess.PIPE,
            pass_fds=[number],
            env=self._environment,
        )
        self._process = process
        logger.info("%s starts as process %d", self.name, process.pid)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended already, which is seen soon
            process.stdin.write(pack_order(self._order))
            process.stdin.flush()

    def _is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _check_alive(self, error: Exception) -> None:
        with self._lock:
            if self._is_running():
                return
            status = None if self._process is None else self._process.returncode
        self._end()
        self._num_failed_starts += 1
        sentence = f"{self.name} ended with status {status} before it served"
        if self._num_failed_starts >= MOST_FAILED_STARTS:
            sentence += f", {self._num_failed_starts} times; its own log says why"
        raise LinkLost(sentence) from error

    def _end(self) -> None:
        with self._lock:
            process, self._process = self._process, None
            if process is None:
                return
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            if self._is_closing.is_set():
                try:
                    process.wait(END_SECONDS)
                except subprocess.TimeoutExpired:
                    logger.warning("%s does not end by itself", self.name)
            process.kill()
            process.wait()
