"""A Ray of this host's own: on loopback, behind a token, for as long as the verifier lives.

It is a program apart from the keeper, so that workers live on where that one ends.
"""

from __future__ import annotations

import logging
import signal
import socket
import sys

import msgspec

from verifier.keeper.ray_environment import set_environment
from verifier.workers.frames import FramedSocket
from verifier.workers.on_ray.messages import RayPlace, Ready, Refused, Wanted, unpack
from verifier.workers.orders import MAX_ORDER_BYTES

SEND_SECONDS = 10.0
# The least that Ray takes; nothing of ours is kept there.
_OBJECT_STORE_BYTES = 80 << 20


def main() -> None:
    """Start Ray, say where it is at the socket whose number is the only argument, and wait."""
    place = unpack(sys.stdin.buffer.readline(MAX_ORDER_BYTES), RayPlace)
    set_environment(place.token_file, is_local=True)
    framed = FramedSocket(socket.socket(fileno=int(sys.argv[1])), msgspec.msgpack.Decoder(Wanted))
    import ray

    try:
        ray.init(
            num_cpus=1,  # so many processes wait for work; a worker takes none of them
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address="127.0.0.1",
            _temp_dir=place.directory,
        )
    except (OSError, RuntimeError, ValueError) as error:
        told = (str(error) or type(error).__name__).splitlines()[0]
        framed.send(Refused(f"Ray does not start here: {told}"), SEND_SECONDS)
        sys.exit(2)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    framed.send(Ready(ray.get_runtime_context().gcs_address), SEND_SECONDS)
    while sys.stdin.buffer.read(1 << 12):
        pass
    ray.shutdown()


if __name__ == "__main__":
    main()
