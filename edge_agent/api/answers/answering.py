"""From a request to its answer, whole or streamed; the shapes of dialects are others' to say.

It must never know a field or a word of a dialect.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import web

from edge_agent.api.answers.choices import start_answer
from edge_agent.api.answers.event_stream import EventStream
from edge_agent.api.answers.half_closed import ClientGone, HalfClosed, interim_response
from edge_agent.api.error_shapes import Failure
from edge_agent.api.errors import failure_of, internal_failure
from edge_agent.api.large_body_reader import BodyKind
from edge_agent.api.openai_response import answer_headers
from edge_agent.api.request_bodies import RequestBodies
from edge_agent.api.requests.client_request import ClientRequest
from edge_agent.api.requests.request_fields import ignored_header
from edge_agent.generation.generation import (
    Events,
    Finished,
    Generator,
    TextPiece,
    new_stream_id,
)
from edge_agent.generation.waiting_line import Place
from shared.errors import GoodspeedError, LocalProtocolError

logger = logging.getLogger(__name__)

_UNKNOWN_MODEL = "goodspeed"  # an answer may begin while the verifier is on its way


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the API waits for whom."""

    body_seconds: float = 10.0  # for a request's body; aiohttp itself would wait for ever
    keepalive_seconds: float = 5.0  # of silence in an event stream, then a comment


PATIENCE = Patience()


class AnswerShape(Protocol):
    """The form of one answer, which may be told in pieces; made anew for every request."""

    @property
    def media_type(self) -> str:
        """Of a stream."""
        ...

    def keepalive(self, place: Place | None) -> bytes:
        """What says in a stream that there is nothing to say, but perhaps a place in the line."""
        ...

    def whole(self, text: str, finished: Finished) -> dict[str, Any]:
        """The JSON of an answer that is not streamed."""
        ...

    def opening(self) -> bytes:
        """What comes before all text, with the first piece or the end."""
        ...

    def piece(self, piece: TextPiece) -> bytes:
        """One piece of text."""
        ...

    def ending(self, finished: Finished) -> bytes:
        """All that comes after the last piece."""
        ...

    def failing(self, failure: Failure) -> bytes:
        """In place of an ending: the stream has begun, so that no status can tell."""
        ...


class Answering:
    """What all endpoints of one agent share."""

    def __init__(
        self,
        generator: Generator,
        bodies: RequestBodies,
        patience: Patience,
        model_id: str | None,
        place_of: Callable[[int], Place | None],
    ) -> None:
        self.generator = generator
        self._place_of = place_of
        self._bodies = bodies
        self._patience = patience
        self._model_id = model_id

    @property
    def model(self) -> str | None:
        """The name of the target; None while there is no verifier."""
        return self._model_id or self.generator.target_model

    @property
    def model_name(self) -> str:
        """The name for an answer, which needs one."""
        return self.model or _UNKNOWN_MODEL

    async def read(self, request: web.Request, kind: BodyKind) -> ClientRequest:
        """What the client asks for; raises as `RequestBodies.read`."""
        return await self._bodies.read(request, kind)

    async def read_short(self, request: web.Request, most_bytes: int) -> bytes:
        """A body that the event loop reads itself; raises as `RequestBodies.read_short`."""
        return await self._bodies.read_short(request, most_bytes)

    async def answer(
        self, request: web.Request, asked: ClientRequest, shape: AnswerShape
    ) -> web.StreamResponse:
        """Generate what is asked for, and tell it in a shape.

        Raises:
            GoodspeedError: it failed before a stream has begun.
        """
        headers = ignored_header(asked.ignored)
        stream_id = new_stream_id()
        async with start_answer(self.generator, asked, stream_id) as events:
            if not asked.is_streamed:
                async with HalfClosed(request, interim_response(request)):
                    return await _answer_whole(events, shape, headers)
            async with EventStream(
                request,
                headers,
                media_type=shape.media_type,
                keepalive=lambda: shape.keepalive(self._place_of(stream_id)),
                keepalive_seconds=self._patience.keepalive_seconds,
            ) as stream:
                try:
                    async with HalfClosed(request, stream.show_life):
                        await _answer_streamed(stream, events, shape)
                except ClientGone as error:
                    logger.debug("the client is gone: %s", error)
                return stream.response


async def _answer_whole(
    events: Events, shape: AnswerShape, headers: Mapping[str, str]
) -> web.Response:
    texts: list[str] = []
    async for event in events:
        if isinstance(event, Finished):
            body = shape.whole("".join(texts), event)
            return web.json_response(body, headers={**answer_headers(event), **headers})
        texts.append(event.text)
    raise LocalProtocolError("the generation ended without a finish")


async def _answer_streamed(stream: EventStream, events: Events, shape: AnswerShape) -> None:
    has_begun = False
    try:
        async for event in events:
            lines = b"" if has_begun else shape.opening()
            has_begun = True
            is_over = isinstance(event, Finished)
            lines += shape.ending(event) if isinstance(event, Finished) else shape.piece(event)
            await stream.send(lines)
            if is_over:
                return
        raise LocalProtocolError("the generation ended without a finish")
    except GoodspeedError as error:
        if not stream.response.prepared:
            raise
        await stream.send(shape.failing(failure_of(error)))
    except ClientGone:
        raise
    except Exception:
        if not stream.response.prepared:
            raise
        logger.exception("an answer failed half-way")
        await stream.send(shape.failing(internal_failure()))
