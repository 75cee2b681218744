"""A worker's process from both ends: started, watched and ended; and what it does itself.

It takes its order, loads its target, and serves at a socket that the process made which started it,
so its address stays the same however often it is started. It ends with that one, which holds its
standard input open, but not beneath a verifier that is served: where Ray is gone, which has started
it for one, rounds go on. This module must never connect to a worker.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from verifier.target.target import TargetModel
from verifier.workers.messages import Facts
from verifier.workers.orders import MAX_ORDER_BYTES, WorkerOrder, pack_order, unpack_order
from verifier.workers.remote_target import WorkerAddress
from verifier.workers.worker_port import WorkerPort

logger = logging.getLogger(__name__)

# A process that was asked to end, or was closed out, gets this long.
END_SECONDS = 5.0
# Within so long the end of a killed process was seen here (2 busy cores, 2026-11: up to 0.1 s).
END_SEEN_SECONDS = 0.5
# How often a process that is left alone looks whether its verifier is there.
LOOK_SECONDS = 0.1

Load = Callable[[WorkerOrder], tuple[TargetModel, Facts]]


class WorkerProcess:
    """One at a time; from any thread. It ends when this process does."""

    def __init__(
        self,
        order: WorkerOrder,
        command: Sequence[str],
        environment: Mapping[str, str],
        host: str = "127.0.0.1",
    ) -> None:
        """`command` gets the number of its listening socket behind it.

        Raises:
            OSError: this machine has no such address.
        """
        self._order = order
        self._command = tuple(command)
        self._environment = dict(environment)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listening = socket.create_server((host, 0), family=family)
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = False
        self._lock = threading.RLock()

    @property
    def address(self) -> WorkerAddress:
        """Where it listens, now and later."""
        host, port = self._listening.getsockname()[:2]
        return WorkerAddress(host, port)

    @property
    def process_id(self) -> int | None:
        """Of the process that was started last, if it is not ended."""
        return None if self._process is None else self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended by itself."""
        with self._lock:
            return self._process is not None and self._process.poll() is None

    @property
    def status(self) -> int | None:
        """With which it has ended by itself; None: it runs, or was ended."""
        return None if self._process is None else self._process.returncode

    def start(self) -> None:
        """Let it load its target, without waiting for that, if it does not run."""
        with self._lock:
            if not self._is_closed and not self.is_running:
                self._start()

    def see_end(self) -> None:
        """A process that ended closes its connection a moment before its end can be seen."""
        with self._lock, contextlib.suppress(subprocess.TimeoutExpired):
            if self._process is not None:
                self._process.wait(END_SEEN_SECONDS)

    def end(self, *, gives_time: bool = False) -> None:
        """End it, if it runs; with `gives_time` it may end by itself first."""
        with self._lock:
            process, self._process = self._process, None
            if process is None:
                return
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            if gives_time:
                try:
                    process.wait(END_SECONDS)
                except subprocess.TimeoutExpired:
                    logger.warning("%s does not end by itself", self._order.name)
            process.kill()
            process.wait()

    def leave(self) -> None:
        """Let it end as soon as no verifier is served there, and wait for that."""
        with self._lock:
            self._is_closed = True
            if self._process is None:
                return
            assert self._process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.wait()

    def close(self) -> None:
        """End it for good."""
        self._is_closed = True
        self.end(gives_time=True)
        self._listening.close()

    def _start(self) -> None:
        self.end()  # one that ended by itself
        number = self._listening.fileno()
        process = subprocess.Popen(
            [*self._command, str(number)],
            stdin=subprocess.PIPE,
            pass_fds=[number],
            env=self._environment,
        )
        self._process = process
        logger.info("%s starts as process %d", self._order.name, process.pid)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended already, which is seen soon
            process.stdin.write(pack_order(self._order))
            process.stdin.flush()


def serve_kept(listening_number: int, load: Load) -> None:
    """Serve what `load` gives at the socket of this number, until the verifier ends it.

    Raises: as `load` and `WorkerPort.serve`.
    """
    order = unpack_order(sys.stdin.buffer.readline(MAX_ORDER_BYTES))
    port: WorkerPort | None = None

    def serves() -> bool:
        return port is not None and port.serves_now

    watch = threading.Thread(
        target=end_with_input, args=(serves,), name="goodspeed-keeper-watch", daemon=True
    )
    watch.start()
    with socket.socket(fileno=listening_number) as listening:
        target, facts = load(order)
        port = WorkerPort(listening, order.secret, target, facts)
        port.serve()


def end_with_input(serves: Callable[[], bool] = lambda: False) -> None:
    """End this process when its standard input has, as soon as it does not serve.

    At once, whatever is going on: nothing is kept here that must be saved.
    """
    # Not by `sys.stdin`, whose lock a thread must not hold when the interpreter ends.
    while os.read(sys.stdin.fileno(), 1 << 12):
        pass
    while serves():
        time.sleep(LOOK_SECONDS)
    os._exit(0)
