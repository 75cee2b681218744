"""What the verifier and a door say to each other: batches of entries, in MessagePack.

Pure. Each entry is about one websocket, by the number that the verifier gave it; 0 is the door
itself. This module must never know what a board's message means.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum

import msgspec

from shared.errors import RemoteProtocolError

# The websocket's number, what it is, an amount, the content.
Entry = tuple[int, int, int, bytes]

THE_DOOR = 0
# A batch is sent when it has so many bytes, or at the end of a turn of the event loop.
BATCH_BYTES = 1 << 20
# No batch is longer: one entry more than `BATCH_BYTES`, of the longest message.
MAX_BATCH_BYTES = 4 << 20
# How far a door reads a websocket ahead of the verifier: messages, each with what one costs beside
# its bytes. 256 short ones, 10 ms of the verifier's event loop at most; a board with 64 streams
# sends as many drafts of 1.3 kB at once as fit three times.
CREDIT_BYTES = 256 << 10
MESSAGE_COST = 1 << 10

_LENGTH = struct.Struct("<I")


class FromDoor(IntEnum):
    """What a door says; the first of them are `Frame`, and take credit.

    The amount of each is how many bytes came from the board since the one before.
    """

    MESSAGE = 0
    CONTROL = 1
    TEXT = 2
    BROKEN = 3
    BYTES = 4  # that made no frame yet
    OVERRUN = 5  # the board does not read; the content says how
    ENDED = 6  # nothing comes after it
    QUEUED = 7  # the amount: bytes that wait for the board to read
    ALIVE = 8  # the door, once it serves, and whenever it is asked


class ToDoor(IntEnum):
    """What the verifier says."""

    MESSAGE = 0  # to be sent, or queued
    PART = 1  # of a long message, of which another part follows
    LAST_PART = 2
    CREDIT = 3  # the amount: so much of what came was taken
    DEAFEN = 4  # throw away whatever comes
    END = 5  # say goodbye after what is queued
    ABORT = 6  # end now
    ASK = 7  # the door, whether it is alive


class Arrival(msgspec.Struct, frozen=True, array_like=True):
    """What goes with the file descriptor of a websocket that a door shall serve."""

    number: int
    heartbeat_seconds: float
    farewell_seconds: float  # for the board to read its last messages and to answer the close
    max_queued_bytes: int
    max_frame_bytes: int


def cost_of(content: bytes) -> int:
    """How much credit a frame takes."""
    return MESSAGE_COST + len(content)


class BatchPacker:
    """Entries on their way out."""

    def __init__(self) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self._entries: list[Entry] = []
        self._num_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, entry: Entry) -> bool:
        """Add an entry; whether the batch is full now."""
        self._entries.append(entry)
        self._num_bytes += len(entry[3])
        return self._num_bytes >= BATCH_BYTES

    def take(self) -> bytes:
        """The batch so far, as it travels; a new one begins."""
        packed = self._encoder.encode(self._entries)
        self._entries.clear()
        self._num_bytes = 0
        return _LENGTH.pack(len(packed)) + packed


class BatchReader:
    """Bytes on their way in."""

    def __init__(self) -> None:
        self._decoder = msgspec.msgpack.Decoder(list[Entry])
        self._arrived = bytearray()

    def read(self, arrived: bytes) -> Iterator[list[Entry]]:
        """The batches that are whole now.

        Raises:
            RemoteProtocolError: one is none of ours.
        """
        self._arrived += arrived
        start = 0
        while len(self._arrived) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._arrived, start)
            if length > MAX_BATCH_BYTES:
                raise RemoteProtocolError(f"a batch of {length} bytes exceeds {MAX_BATCH_BYTES}")
            end = start + _LENGTH.size + length
            if len(self._arrived) < end:
                break
            packed = bytes(self._arrived[start + _LENGTH.size : end])
            start = end
            try:
                entries = self._decoder.decode(packed)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise RemoteProtocolError(f"a batch is none of ours: {str(error)[:200]}") from None
            yield entries
        del self._arrived[:start]
