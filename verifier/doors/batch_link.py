"""One end of the socket between the verifier and a door: batches out, batches in.

What is put in one turn of the event loop goes out as one batch. This module must never know what
an entry means.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from shared.errors import RemoteProtocolError
from verifier.doors.traffic import BatchPacker, BatchReader, Entry


class BatchLink(asyncio.Protocol):
    """Made by `connect_link`; all on the event loop."""

    def __init__(
        self,
        own_end: socket.socket,
        take: Callable[[list[Entry]], None],
        lost: Callable[[], None],
        stand_still: Callable[[bool], None] = lambda is_still: None,
    ) -> None:
        """`take` gets each batch, `lost` is called once at the end, for whatever reason.

        `stand_still`: whether the other end reads so slowly that nothing should be put any more.
        """
        self._socket = own_end
        self._take = take
        self._lost = lost
        self._stand_still = stand_still
        self._packer, self._reader = BatchPacker(), BatchReader()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._is_flush_due = False

    @property
    def num_waiting_bytes(self) -> int:
        """Of batches that the other end has not read."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def put(self, entry: Entry) -> None:
        """Send an entry with the others of this turn; nothing where the link is lost."""
        if self._packer.add(entry):
            self.flush()
        elif not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush_at_end_of_turn)

    def flush(self) -> None:
        """Send what was put, now."""
        if not self._packer:
            return
        packed = self._packer.take()
        if self._transport is not None and not self._transport.is_closing():
            self._write(packed)

    def pause_reading(self) -> None:
        """Take no batch for a while."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take batches again."""
        if self._transport is not None:
            self._transport.resume_reading()

    def close(self) -> None:
        """End the link; what was put before is sent."""
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End the link now."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none of its children

    def data_received(self, data: bytes) -> None:
        try:
            for batch in self._reader.read(data):
                self._take(batch)
        except RemoteProtocolError:
            self.abort()

    def pause_writing(self) -> None:
        self._stand_still(True)

    def resume_writing(self) -> None:
        self._stand_still(False)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._lost()

    def _flush_at_end_of_turn(self) -> None:
        self._is_flush_due = False
        self.flush()

    def _write(self, packed: bytes) -> None:
        """At once: a transport would wait for the end of what the event loop is doing."""
        assert self._transport is not None
        num_sent = 0
        if not self._transport.get_write_buffer_size():
            try:
                num_sent = self._socket.send(packed)
            except OSError:
                num_sent = 0  # it is full, or the transport is about to notice
        if num_sent < len(packed):
            self._transport.write(packed[num_sent:])


async def connect_link(link: BatchLink, own_end: socket.socket) -> None:
    """Let a link live on a connected stream socket, which it then owns."""
    own_end.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.create_connection(lambda: link, sock=own_end)
