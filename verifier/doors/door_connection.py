"""One websocket in a door's process: frames in both directions, with their limits.

A door reads ahead of the verifier as far as its credit goes, then leaves what comes in the board's
socket. This module must never know what a message means.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

from aiohttp import WebSocketError, WSCloseCode, WSMessage, WSMsgType
from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader

from verifier.doors.outward import Outward
from verifier.doors.traffic import CREDIT_BYTES, Arrival, Entry, FromDoor, cost_of

# Parsed at once: 2,700 of the shortest frames.
PIECE_BYTES = 16 << 10
_FRAMES = {
    WSMsgType.BINARY: FromDoor.MESSAGE,
    WSMsgType.PING: FromDoor.CONTROL,
    WSMsgType.PONG: FromDoor.CONTROL,
    WSMsgType.TEXT: FromDoor.TEXT,
    WSMsgType.CLOSE: FromDoor.ENDED,
}


class _Frames(WebSocketDataQueue):
    """Where aiohttp's reader puts frames: into a callback, and nowhere else."""

    def __init__(self, take: Callable[[WSMessage], None]) -> None:
        no_protocol: asyncio.Protocol = asyncio.Protocol()
        loop = asyncio.get_running_loop()
        super().__init__(no_protocol, PIECE_BYTES, loop=loop)  # type: ignore[arg-type]
        self._take_frame = take

    def feed_data(self, data: WSMessage, size: int) -> None:  # type: ignore[override]
        self._take_frame(data)


class DoorConnection(asyncio.Protocol):
    """From the moment that its socket came until that is closed.

    Its end is told as soon as nothing more is to be told of it; the socket may linger a while, so
    that a board that is still sending can read what it was told last.
    """

    def __init__(
        self,
        arrival: Arrival,
        tell: Callable[[Entry], None],
        over: Callable[[int], None],
        lost: Callable[[DoorConnection], None],
    ) -> None:
        """`tell` the verifier an entry; `over`: its end was told; `lost`: so is the socket."""
        self._number = arrival.number
        self._terms = arrival
        self._tell, self._over, self._lost = tell, over, lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._outward = Outward(
            arrival.max_queued_bytes, self._cut_off, self._tell_queued, self._be_forgotten
        )
        self._frames = _Frames(self._take_frame)
        self._reader = WebSocketReader(
            self._frames, arrival.max_frame_bytes, compress=False, decode_text=False
        )
        self._unparsed = bytearray()
        self._aside: deque[tuple[FromDoor, bytes]] = deque()  # for want of credit
        self._credit = CREDIT_BYTES
        self._num_bytes = 0  # that the verifier was not told of
        self._heard_at = self._loop.time()
        self._heartbeat: asyncio.TimerHandle | None = None
        self._farewell: asyncio.TimerHandle | None = None
        self._is_reading = True
        self._is_held = False  # with all others: the verifier is behind
        self._is_deaf = False  # what comes is thrown away, but for a close
        self._is_broken = False  # what comes are no frames
        self._is_lost = False  # there is no connection any more
        self._is_over = False  # and nothing to tell of it

    def send(self, packed: bytes) -> None:
        """Send a message, or queue it."""
        self._outward.put(packed)

    def send_parts(self, parts: Sequence[bytes]) -> None:
        """Queue the parts of a long message."""
        self._outward.put_parts(parts)

    def give_credit(self, amount: int) -> None:
        """The verifier has taken what cost so much."""
        self._credit += amount
        self._go_on()

    def hold(self, is_held: bool) -> None:
        """Read nothing until it is not held any more."""
        self._is_held = is_held
        self._go_on()

    def deafen(self) -> None:
        """Throw away whatever comes, but for the board's goodbye: its frames are read on."""
        self._is_deaf = True
        self._aside.clear()
        self._go_on()

    def end(self) -> None:
        """Say goodbye after what is queued, and wait a while for the board to do the same."""
        self.deafen()
        self._outward.end()
        self._end_soon()

    def abort(self) -> None:
        """End now."""
        self._unparsed.clear()
        self.deafen()
        if self._transport is None:
            self._is_lost = True
            self._go_on()
        else:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none of its children
        if self._is_over:
            self._transport.abort()
            return
        self._outward.begin(self._transport)
        self._heard_at = self._loop.time()
        self._watch()
        self._go_on()

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        if self._is_broken:
            return
        self._num_bytes += len(data)
        if self._unparsed or self._aside:
            self._unparsed += data
        else:
            self._parse(data)
            self._go_on()

    def pause_writing(self) -> None:
        self._outward.pause()

    def resume_writing(self) -> None:
        self._outward.resume()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport, self._is_lost = None, True
        self._outward.lose()
        self._lost(self)
        for timer in (self._heartbeat, self._farewell):
            if timer is not None:
                timer.cancel()
        self._go_on()

    def _parse(self, data: bytes) -> None:
        """Take in what came, up to a piece."""
        if len(data) > PIECE_BYTES:
            self._unparsed += data[PIECE_BYTES:]
            data = data[:PIECE_BYTES]
        has_failed, _ = self._reader.feed_data(data)
        if has_failed:
            self._unparsed.clear()
            self._break(self._frames.exception())
        if self._num_bytes and not self._aside and not self._is_deaf:
            self._say(FromDoor.BYTES, b"")

    def _take_frame(self, frame: WSMessage) -> None:
        kind = _FRAMES[frame.type]
        if frame.type is WSMsgType.PING:
            self._outward.control(WSMsgType.PONG, bytes(frame.data))
        if kind is FromDoor.ENDED and self._is_deaf:
            self._hang_up()
        elif self._is_deaf:
            return
        elif self._aside or not self._may_tell:
            self._aside.append((kind, b"" if kind is FromDoor.ENDED else frame.data))
        else:
            self._pass_on(kind, b"" if kind is FromDoor.ENDED else frame.data)

    def _break(self, error: BaseException | None) -> None:
        """What came is no frame: the board hears why in the way of websockets."""
        if self._is_deaf:
            self._hang_up()
            return
        self._is_broken = True
        self._outward.drop()
        code = error.code if isinstance(error, WebSocketError) else WSCloseCode.PROTOCOL_ERROR
        self._outward.end(code)
        self._end_soon()
        self._aside.append((FromDoor.BROKEN, str(error)[:200].encode()))

    @property
    def _may_tell(self) -> bool:
        return self._credit > 0 and not self._is_held

    def _pass_on(self, kind: FromDoor, content: bytes) -> None:
        if kind is FromDoor.ENDED:
            self.deafen()
            self._outward.drop()
            self._outward.end()
            self._end_soon()
            self._hang_up()
        else:
            self._credit -= cost_of(content)
            self._say(kind, content)

    def _say(self, kind: FromDoor, content: bytes) -> None:
        if not self._is_over:
            self._tell((self._number, kind, self._num_bytes, content))
            self._num_bytes = 0

    def _go_on(self) -> None:
        """Tell what there is as far as credit goes; then read, or wait for more credit."""
        while self._aside and self._may_tell:
            self._pass_on(*self._aside.popleft())
        is_behind = bool(self._aside) or (self._is_held and not self._is_deaf)
        if not is_behind and self._unparsed:
            piece = bytes(self._unparsed[:PIECE_BYTES])
            del self._unparsed[:PIECE_BYTES]
            self._parse(piece)
            self._loop.call_soon(self._go_on)
            is_behind = True
        if self._is_lost:
            if not is_behind:
                self._finish()
        elif self._transport is not None and self._is_reading is is_behind:
            self._is_reading = not is_behind
            (self._transport.pause_reading if is_behind else self._transport.resume_reading)()

    def _hang_up(self) -> None:
        """The board has said goodbye, or nothing that makes sense."""
        if self._transport is not None:
            self._transport.close()

    def _end_soon(self) -> None:
        if self._farewell is None and not self._is_lost:
            self._farewell = self._loop.call_later(self._terms.farewell_seconds, self.abort)

    def _be_forgotten(self) -> None:
        """The close is on its way; what the verifier must know was said, unless it is to come."""
        if self._is_deaf:
            self._finish()

    def _cut_off(self, reason: str) -> None:
        """The board does not read."""
        self._say(FromDoor.OVERRUN, reason.encode())
        self.abort()

    def _finish(self) -> None:
        if not self._is_over:
            self._say(FromDoor.ENDED, b"")
            self._is_over = True
            self._over(self._number)

    def _tell_queued(self, num_bytes: int) -> None:
        if not self._is_over:
            self._tell((self._number, FromDoor.QUEUED, num_bytes, b""))

    def _watch(self) -> None:
        """Ping a board that is silent; one that does not answer for half as long is lost."""
        limit, now = self._terms.heartbeat_seconds, self._loop.time()
        if self._aside or self._is_held:
            self._heard_at = now  # it may well have said something
        silent_seconds = now - self._heard_at
        if silent_seconds >= 1.5 * limit:
            self.abort()
            return
        if silent_seconds >= limit:
            self._outward.control(WSMsgType.PING, b"")
            delay = 1.5 * limit - silent_seconds
        else:
            delay = limit - silent_seconds
        self._heartbeat = self._loop.call_later(delay, self._watch)
