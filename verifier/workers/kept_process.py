"""The process of a worker that is started: takes its order, loads its target, serves, and ends.

It ends with the process that started it, which holds its standard input open, but not beneath a
verifier that is served: where Ray is gone, which has started it for one, rounds go on.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable

from verifier.target.target import TargetModel
from verifier.workers.messages import Facts
from verifier.workers.orders import MAX_ORDER_BYTES, WorkerOrder, unpack_order
from verifier.workers.worker_port import WorkerPort

# How often a process that is left alone looks whether its verifier is there.
LOOK_SECONDS = 0.1

Load = Callable[[WorkerOrder], tuple[TargetModel, Facts]]


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
