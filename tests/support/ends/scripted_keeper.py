"""A program: a keeper without a Ray, whose workers are children of its own."""

from __future__ import annotations

import os
import socket
import sys
import threading

import msgspec

from shared.errors import LinkLost
from verifier.keeper.worker_actor import WorkerActor
from verifier.workers.frames import FramedSocket
from verifier.workers.kept_process import end_with_input
from verifier.workers.on_ray.messages import (
    KeeperOrder,
    NotPlaced,
    Ready,
    Refused,
    Wanted,
    order_of,
    unpack,
)

SECONDS = 5.0


def main() -> None:
    """By the namespace of the order: it is well, `refuses`, is `silent`, or `waits` once."""
    order = unpack(sys.stdin.buffer.readline(), KeeperOrder)
    threading.Thread(target=end_with_input, daemon=True).start()
    framed = FramedSocket(socket.socket(fileno=int(sys.argv[1])), msgspec.msgpack.Decoder(Wanted))
    if order.namespace == "refuses":
        framed.send(Refused("workers.ray: no way in"), SECONDS)
        sys.exit(2)
    framed.send(Ready("nowhere:1"), SECONDS)
    actors: dict[int, WorkerActor] = {}
    is_waiting = order.namespace == "waits"
    while True:
        try:
            wanted = framed.receive(None)
        except LinkLost:
            os._exit(0)
        if order.namespace == "silent":
            continue
        if order.namespace == "never" or is_waiting:
            is_waiting = False
            framed.send(NotPlaced("it waits for 2 GPUs of one host"), SECONDS)
            continue
        if wanted.number not in actors:
            worker = order_of(order, wanted.number)
            actors[wanted.number] = WorkerActor(worker, order.worker_module, "127.0.0.1")
        placed = actors[wanted.number].serve(wanted.lost_process_id, is_stuck=wanted.is_stuck)
        framed.send(placed, SECONDS)


if __name__ == "__main__":
    main()
