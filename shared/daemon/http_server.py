"""The verifier's sockets: they take connections as soon as the program starts.

A target takes seconds to load.  Boards that come back meanwhile wait in the kernel's queue and are
served in the moment that the target is there, and an address that is in use is found out at once.
"""

from __future__ import annotations

import socket

# As many boards as come back at once; the kernel may hold fewer (net.core.somaxconn).
BACKLOG = 1024


def listen(host: str, port: int) -> tuple[socket.socket, ...]:
    """Listen on every address of the host (""; all of them), on a free port for 0.

    Raises:
        OSError: the host is not known, or an address cannot be listened on.
    """
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listening: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            listening.append(socket.create_server(address, family=family, backlog=BACKLOG))
    except OSError:
        for one in listening:
            one.close()
        raise
    return tuple(listening)
