"""The program of a door, which the verifier starts: it holds websockets, and ends with its link.

It knows no token and no message's meaning, and imports as little as that takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys

import msgspec

from shared.daemon.lifecycle import STOP_SIGNALS, rare_collections, run_loop
from verifier.doors.batch_link import BatchLink, connect_link
from verifier.doors.door_connection import DoorConnection
from verifier.doors.traffic import THE_DOOR, Arrival, Entry, FromDoor, ToDoor

# Longer than any `Arrival`.
_MAX_ARRIVAL_BYTES = 1 << 10
# How soon a door ends after its last websocket.
_LINGER_SECONDS = 0.01


class Door:
    """All websockets of one door's process."""

    def __init__(self, own_end: socket.socket, arrivals: socket.socket) -> None:
        self._arrivals = arrivals
        self._decoder = msgspec.msgpack.Decoder(Arrival)
        self._connections: dict[int, DoorConnection] = {}  # that the verifier knows
        self._sockets: set[DoorConnection] = set()  # those included that linger
        self._parts: dict[int, list[bytes]] = {}  # of long messages that come in parts
        self._opening: set[asyncio.Task[object]] = set()
        self._is_held = False
        self._is_lost = asyncio.Event()
        self.link = BatchLink(own_end, self._take, self._is_lost.set, self._hold)

    async def serve(self) -> None:
        """Until the verifier closes the link, or is gone."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._arrivals.fileno(), self._let_in)
        self.link.put((THE_DOOR, FromDoor.ALIVE, 0, b""))
        await self._is_lost.wait()
        loop.remove_reader(self._arrivals.fileno())
        for connection in tuple(self._connections.values()):
            connection.abort()
        while self._sockets:  # noqa: ASYNC110 - each for its farewell at most
            await asyncio.sleep(_LINGER_SECONDS)

    def _take(self, batch: list[Entry]) -> None:
        self._let_in()  # what is said of a websocket never comes before it
        for number, kind, amount, content in batch:
            if number == THE_DOOR:
                self.link.put((THE_DOOR, FromDoor.ALIVE, amount, b""))
                continue
            connection = self._connections.get(number)
            if connection is not None:
                self._do(connection, number, kind, amount, content)

    def _do(
        self, connection: DoorConnection, number: int, kind: int, amount: int, content: bytes
    ) -> None:
        match kind:
            case ToDoor.MESSAGE:
                connection.send(content)
            case ToDoor.PART:
                self._parts.setdefault(number, []).append(content)
            case ToDoor.LAST_PART:
                connection.send_parts([*self._parts.pop(number, []), content])
            case ToDoor.CREDIT:
                connection.give_credit(amount)
            case ToDoor.DEAFEN:
                connection.deafen()
            case ToDoor.END:
                connection.end()
            case ToDoor.ABORT:
                connection.abort()

    def _let_in(self) -> None:
        """Take the websockets that the verifier has handed over."""
        with contextlib.suppress(BlockingIOError):
            while True:
                packed, numbers, _, _ = socket.recv_fds(self._arrivals, _MAX_ARRIVAL_BYTES, 1)
                if not packed:
                    return
                arrival = self._decoder.decode(packed)
                if not numbers:  # this process may have no more files open
                    self.link.put((arrival.number, FromDoor.ENDED, 0, b""))
                    continue
                connection = DoorConnection(
                    arrival, self.link.put, self._forget, self._sockets.discard
                )
                self._sockets.add(connection)
                connection.hold(self._is_held)
                self._connections[arrival.number] = connection
                task = asyncio.create_task(
                    _open(socket.socket(fileno=numbers[0]), connection), name="open"
                )
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)

    def _forget(self, number: int) -> None:
        del self._connections[number]
        self._parts.pop(number, None)

    def _hold(self, is_held: bool) -> None:
        """The verifier is behind, or is not any more."""
        self._is_held = is_held
        for connection in tuple(self._connections.values()):
            connection.hold(is_held)


async def _open(connected: socket.socket, connection: DoorConnection) -> None:
    connected.setblocking(False)
    try:
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: connection, connected)
    except OSError:  # it was gone before it came
        connected.close()
        connection.connection_lost(None)


async def serve(own_end: socket.socket, arrivals: socket.socket) -> None:
    """Hold websockets until the link ends."""
    arrivals.setblocking(False)
    door = Door(own_end, arrivals)
    with rare_collections():
        await connect_link(door.link, own_end)
        await door.serve()


def main() -> None:
    """Serve at the sockets whose numbers are the arguments: the link, and where arrivals come."""
    for number in STOP_SIGNALS:  # a service manager sends them to all processes at once
        signal.signal(number, signal.SIG_IGN)
    own_end, arrivals = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    with own_end, arrivals:
        run_loop(serve(own_end, arrivals))


if __name__ == "__main__":
    main()
