"""The process that a keeper starts: takes its order, loads its target, serves until either ends."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable

from verifier.target.target import TargetModel
from verifier.workers.messages import Facts
from verifier.workers.orders import MAX_ORDER_BYTES, WorkerOrder, unpack_order
from verifier.workers.worker_port import WorkerPort

Load = Callable[[WorkerOrder], tuple[TargetModel, Facts]]


def serve_kept(listening_number: int, load: Load) -> None:
    """Serve what `load` gives at the keeper's socket, until the verifier or the keeper ends it.

    Raises: as `load` and `WorkerPort.serve`.
    """
    order = unpack_order(sys.stdin.buffer.readline(MAX_ORDER_BYTES))
    threading.Thread(target=end_with_keeper, name="goodspeed-keeper-watch", daemon=True).start()
    with socket.socket(fileno=listening_number) as listening:
        target, facts = load(order)
        WorkerPort(listening, order.secret, target, facts).serve()


def end_with_keeper() -> None:
    """At once, also while the target loads: nothing is kept here that must be saved."""
    # Not by `sys.stdin`, whose lock a thread must not hold when the interpreter ends.
    while os.read(sys.stdin.fileno(), 1 << 12):
        pass
    os._exit(0)
