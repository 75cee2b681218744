"""A door in this process: the verifier's and the board's ends of it, by hand."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from tests.support.ends.waiting import eventually
from verifier.doors.batch_link import BatchLink, connect_link
from verifier.doors.door_program import serve
from verifier.doors.traffic import THE_DOOR, Arrival, Entry, FromDoor, ToDoor

PATIENCE_SECONDS = 20.0
TERMS = Arrival(
    number=1,
    heartbeat_seconds=60.0,
    farewell_seconds=0.3,
    max_queued_bytes=1 << 20,
    max_frame_bytes=1 << 16,
)


class DoorEnds:
    """What the door says, `heard`, and how to speak to it."""

    def __init__(self, link_end: socket.socket, arrivals: socket.socket) -> None:
        self.heard: list[Entry] = []
        self._link_end, self._arrivals = link_end, arrivals
        self._link = BatchLink(link_end, self.heard.extend, lambda: None)

    async def connect(self) -> None:
        await connect_link(self._link, self._link_end)

    def tell(self, kind: ToDoor, content: bytes = b"", amount: int = 0, number: int = 1) -> None:
        self._link.put((number, kind, amount, content))

    def stand_still(self, is_still: bool) -> None:
        (self._link.pause_reading if is_still else self._link.resume_reading)()

    def close(self) -> None:
        self._link.close()

    async def board(self, number: int = 1, **terms: Any) -> tuple[Any, asyncio.StreamWriter]:
        """Hand a websocket over; the board's end of it."""
        ours, boards = socket.socketpair()
        arrival = msgspec.structs.replace(TERMS, number=number, **terms)
        socket.send_fds(self._arrivals, [msgspec.msgpack.encode(arrival)], [ours.fileno()])
        ours.close()
        return await asyncio.open_connection(sock=boards)

    def said(self, number: int = 1) -> list[tuple[FromDoor, bytes]]:
        """What was told of a websocket, but for bytes that made no frame."""
        entries = [(FromDoor(kind), content) for n, kind, _, content in self.heard if n == number]
        return [entry for entry in entries if entry[0] is not FromDoor.BYTES]

    async def hears(self, is_enough: Callable[[], bool]) -> None:
        await eventually(is_enough, PATIENCE_SECONDS)


@asynccontextmanager
async def running_door() -> AsyncIterator[DoorEnds]:
    """A door that serves, with the verifier's ends of its sockets."""
    link, arrivals = socket.socketpair(), socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ends = DoorEnds(link[0], arrivals[0])
    door = asyncio.create_task(serve(link[1], arrivals[1]), name="door")
    try:
        await ends.connect()
        await ends.hears(lambda: (THE_DOOR, FromDoor.ALIVE, 0, b"") in ends.heard)
        yield ends
    finally:
        ends.close()
        await door
        for end in arrivals:
            end.close()
