"""The keeper: answers one verifier where Ray has its workers, and ends when that one does."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading

import msgspec

from shared.daemon.command_line import set_up_logging
from shared.errors import GoodspeedError, LinkLost
from verifier.keeper.ray_environment import set_environment
from verifier.workers.frames import FramedSocket
from verifier.workers.kept_process import end_with_input
from verifier.workers.on_ray.messages import KeeperOrder, Ready, Refused, Wanted, unpack
from verifier.workers.orders import MAX_ORDER_BYTES

logger = logging.getLogger(__name__)

SEND_SECONDS = 10.0


def main() -> None:
    """Answer at the socket whose number is the only argument."""
    order = unpack(sys.stdin.buffer.readline(MAX_ORDER_BYTES), KeeperOrder)
    threading.Thread(target=end_with_input, name="goodspeed-verifier-watch", daemon=True).start()
    set_up_logging("info", "text")
    set_environment(order.ray.token_file, is_local=order.is_local)
    framed = FramedSocket(socket.socket(fileno=int(sys.argv[1])), msgspec.msgpack.Decoder(Wanted))
    # Ray reads the environment when it is imported.
    from verifier.keeper.kept_actors import KeptActors

    try:
        actors = KeptActors(order)
    except GoodspeedError as error:
        framed.send(Refused(str(error)), SEND_SECONDS)
        sys.exit(2)
    framed.send(Ready(order.ray.address), SEND_SECONDS)
    while True:
        try:
            wanted = framed.receive(None)
            framed.send(actors.place(wanted), SEND_SECONDS)
        except LinkLost:
            os._exit(0)


if __name__ == "__main__":
    main()
