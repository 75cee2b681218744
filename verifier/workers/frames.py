"""Frames over a stream socket: four bytes of length, then one message; with a deadline each.

Blocking, for the one thread that runs rounds. This module must never know what a message means.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from typing import Generic, TypeVar

import msgspec

from shared.errors import LinkLost, RemoteProtocolError
from verifier.workers.messages import MAX_FRAME_BYTES, ToVerifier, ToWorker

_LENGTH = struct.Struct("<I")
_TIME = struct.Struct("ll")  # the kernel's timeval
_LEAST_READ_BYTES = 1 << 16  # most answers come with one call
Incoming = TypeVar("Incoming")


class TooLate(LinkLost):
    """The peer is there, for all that is known, but did not answer in time."""


class FramedSocket(Generic[Incoming]):
    """One connection; use it from one thread at a time, but `shut_down` from any."""

    def __init__(self, connected: socket.socket, incoming: msgspec.msgpack.Decoder[Incoming]):
        """What comes in is decoded by `incoming`."""
        self._socket = connected
        self._decoder = incoming
        self._encoder = msgspec.msgpack.Encoder()
        self._arrived = bytearray()
        connected.settimeout(None)
        if connected.family != socket.AF_UNIX:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def frame(self, message: msgspec.Struct) -> bytes:
        """A message as it is sent."""
        content = self._encoder.encode(message)
        assert len(content) <= MAX_FRAME_BYTES, "a frame is longer than its receiver takes"
        return _LENGTH.pack(len(content)) + content

    def send(self, message: msgspec.Struct, seconds: float) -> None:
        """Send a message whole.

        Raises:
            LinkLost: the peer is gone, or took longer than that.
        """
        self.send_frame(self.frame(message), seconds)

    def send_at_once(self, frame: bytes) -> bytes:
        """Send what the system takes of a frame without waiting; what it does not take, or none."""
        try:
            return frame[self._socket.send(frame, socket.MSG_DONTWAIT) :]
        except OSError:  # nothing has room now; a broken connection shows when the rest is sent
            return frame

    def send_frame(self, frame: bytes, seconds: float) -> None:
        """`send` of a frame, or of its rest."""
        try:
            self._limit(socket.SO_SNDTIMEO, seconds)
            self._socket.sendall(frame)
        except OSError as error:
            raise _lost(error) from None

    def receive(self, seconds: float | None, most_bytes: int = MAX_FRAME_BYTES) -> Incoming:
        """The next message, whole within that time; None: it may take for ever to begin.

        Raises:
            LinkLost: the peer is gone; `TooLate`: it took longer.
            RemoteProtocolError: it is too long, or none of those that may come.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        (size,) = _LENGTH.unpack(self._take(_LENGTH.size, deadline))
        if size > most_bytes:
            raise RemoteProtocolError(f"a frame of {size} bytes exceeds {most_bytes}")
        content = self._take(size, deadline)
        try:
            return self._decoder.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RemoteProtocolError(f"a frame is none of ours: {str(error)[:200]}") from None

    def has_arrived(self, seconds: float) -> bool:
        """Whether something is here to be received, or the peer's end, within that time."""
        if self._arrived:
            return True
        arrival = select.poll()
        arrival.register(self._socket.fileno(), select.POLLIN)
        return bool(arrival.poll(1e3 * seconds))

    def is_lost(self) -> bool:
        """Whether the peer has gone while nothing was expected of it; from any thread."""
        number = self._socket.fileno()
        if number < 0:
            return True
        hang_up = select.poll()
        hang_up.register(number, select.POLLRDHUP)
        return bool(hang_up.poll(0))

    def shut_down(self) -> None:
        """End the connection for both; a thread that waits in it gets `LinkLost`."""
        with contextlib.suppress(OSError):  # the peer was faster
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the socket back; no thread may use it any more."""
        self._socket.close()

    def _take(self, size: int, deadline: float | None) -> bytes:
        """The next bytes, of which some may be here already."""
        while len(self._arrived) < size:
            missing = max(size - len(self._arrived), _LEAST_READ_BYTES)
            try:
                self._limit(socket.SO_RCVTIMEO, _left(deadline))
                part = self._socket.recv(missing)
            except OSError as error:
                raise _lost(error) from None
            if not part:
                raise LinkLost("the peer closed the connection")
            self._arrived += part
        taken = bytes(self._arrived[:size])
        del self._arrived[:size]
        return taken

    def _limit(self, which: int, seconds: float | None) -> None:
        """By the kernel: Python's own way asks and waits in two calls, each for its lock anew.

        Beside an event loop that computes, each time may take as long as a turn of threads.
        """
        whole = 0.0 if seconds is None else max(seconds, 1e-5)
        self._socket.setsockopt(
            socket.SOL_SOCKET, which, _TIME.pack(int(whole), int(whole % 1 * 1e6))
        )


def at_worker(connected: socket.socket) -> FramedSocket[ToWorker]:
    """The worker's end of a connection."""
    return FramedSocket(connected, msgspec.msgpack.Decoder(ToWorker))


def at_verifier(connected: socket.socket) -> FramedSocket[ToVerifier]:
    """The verifier's end of a connection."""
    return FramedSocket(connected, msgspec.msgpack.Decoder(ToVerifier))


def _left(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("no answer in time")
    return left


def _lost(error: OSError) -> LinkLost:
    if isinstance(error, (TimeoutError, BlockingIOError)):
        return TooLate("it did not answer in time")
    return LinkLost(f"the connection broke: {error.strerror or type(error).__name__}")
