"""Streamed answers that can be taken up again: each is made in a task of its own.

Closing a connection is cancelling, as everywhere, unless the client has said that it comes back:
then its answer goes on for a while, as long as no other request waits for its place. What is over
is kept as long. Few are kept, in few bytes, each for the key that asked for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from uuid import uuid4

from edge_agent.api.answers.answer_shape import AnswerShape
from edge_agent.api.answers.event_log import EventLog
from edge_agent.generation.generation import new_stream_id

MAX_KEPT_STREAMS = 32  # without a reader
MAX_KEPT_BYTES = 16 << 20  # of all answers; what a reader has yet to read comes on top
STOP_SECONDS = 5.0  # for a generation to end after it was cancelled
# How often answers without a reader look whether a request waits.
LOOK_SECONDS = 0.5


class KeptStream:
    """One streamed answer, and who may read it."""

    def __init__(self, shape: AnswerShape, owner: bytes, *, comes_back: bool = False) -> None:
        """`owner`: what is left of the key that asked; `comes_back`: as the client has said."""
        self.shape = shape
        self.owner = owner
        self.comes_back = comes_back
        self.id = shape.answer_id or uuid4().hex
        self.stream_id = new_stream_id()  # of its generation
        self.log = EventLog(shape.answer_id)
        self.task: asyncio.Task[None] | None = None
        self.expiry: asyncio.TimerHandle | None = None  # while there is no reader
        self.num_readers = 0

    @property
    def expires_at(self) -> float:
        """By the loop's clock."""
        assert self.expiry is not None, "a client reads it"
        return self.expiry.when()

    @property
    def is_worth_keeping(self) -> bool:
        """Whether there is something to come back for."""
        if self.log.is_over:
            return self.shape.answer_id is not None and self.log.failure is None
        return self.comes_back


class KeptStreams:
    """All streamed answers of one agent, by id."""

    def __init__(self, grace_seconds: float, num_waiting: Callable[[], int]) -> None:
        """`num_waiting`: requests that wait for a place."""
        self._grace_seconds = grace_seconds
        self._num_waiting = num_waiting
        self._streams: dict[str, KeptStream] = {}
        self._stopping: set[asyncio.Task[None]] = set()
        self._look: asyncio.TimerHandle | None = None
        self._is_closed = False

    def begin(self, stream: KeptStream, work: Coroutine[None, None, None]) -> None:
        """Have an answer made by `work`, which writes its log."""
        self._streams[stream.id] = stream
        stream.task = asyncio.create_task(self._make(stream, work), name="streamed answer")

    def find(self, answer_id: str, owner: bytes) -> KeptStream | None:
        """The answer of this id, if it is kept, and was asked for with the same key."""
        stream = self._streams.get(answer_id)
        return stream if stream is not None and stream.owner == owner else None

    @asynccontextmanager
    async def reading(
        self, stream: KeptStream, num_known: int
    ) -> AsyncGenerator[AsyncGenerator[bytes]]:
        """What follows the first events; the stream stays while it is read."""
        if stream.expiry is not None:
            stream.expiry.cancel()
            stream.expiry = None
        stream.num_readers += 1
        try:
            async with aclosing(stream.log.read(num_known)) as events:
                yield events
        finally:
            stream.num_readers -= 1
            self._leave(stream)

    def make_room(self) -> None:
        """Forget what is kept beyond the limits: first whole answers, then what was read."""
        left = sorted((one for one in self._streams.values() if one.expiry), key=_expires_at)
        while left and (len(left) > MAX_KEPT_STREAMS or self._num_bytes > MAX_KEPT_BYTES):
            self.stop(left.pop(0))
        if self._num_bytes > MAX_KEPT_BYTES:
            for stream in self._streams.values():
                stream.log.forget_what_was_read()

    def stop(self, stream: KeptStream) -> None:
        """End the answer and forget it."""
        self._streams.pop(stream.id, None)
        if stream.expiry is not None:
            stream.expiry.cancel()
        if stream.task is not None and not stream.task.done():
            stream.task.cancel()
            self._stopping.add(stream.task)
            stream.task.add_done_callback(self._stopping.discard)

    async def close(self) -> None:
        """End all that have no reader; the others go on, and end with theirs."""
        self._is_closed = True
        for stream in [one for one in self._streams.values() if one.expiry is not None]:
            self.stop(stream)
        if self._look is not None:
            self._look.cancel()
        if self._stopping:
            await asyncio.wait(self._stopping, timeout=STOP_SECONDS)

    @property
    def _num_bytes(self) -> int:
        return sum(stream.log.num_bytes for stream in self._streams.values())

    async def _make(self, stream: KeptStream, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        finally:
            stream.log.end()

    def _leave(self, stream: KeptStream) -> None:
        """A reader reads no more; perhaps another one does, or this one comes back."""
        if stream.num_readers or self._streams.get(stream.id) is not stream:
            return
        if self._is_closed or not stream.is_worth_keeping:
            self.stop(stream)
            return
        loop = asyncio.get_running_loop()
        stream.expiry = loop.call_later(self._grace_seconds, self.stop, stream)
        self.make_room()
        self._look_soon()

    def _look_soon(self) -> None:
        if self._look is None and self._goes_on_unread():
            self._look = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look_now)

    def _look_now(self) -> None:
        """Who waits for a place is here; who may come back is not."""
        self._look = None
        unread = self._goes_on_unread()
        if unread and self._num_waiting():
            self.stop(min(unread, key=_expires_at))
        self._look_soon()

    def _goes_on_unread(self) -> list[KeptStream]:
        streams = self._streams.values()
        return [stream for stream in streams if stream.expiry and not stream.log.is_over]


def _expires_at(stream: KeptStream) -> float:
    return stream.expires_at
