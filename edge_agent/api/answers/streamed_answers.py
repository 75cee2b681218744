"""Answers told in pieces: made by one task, told to one connection after another.

It must never know a field or a word of a dialect.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus

from aiohttp import web

from edge_agent.api.answers.answer_shape import AnswerShape
from edge_agent.api.answers.choices import start_answer
from edge_agent.api.answers.event_log import EventForgotten, EventLog
from edge_agent.api.answers.event_stream import EventStream
from edge_agent.api.answers.half_closed import ClientGone, HalfClosed
from edge_agent.api.answers.kept_streams import KeptStream, KeptStreams
from edge_agent.api.answers.long_answers import piece_lines
from edge_agent.api.answers.patience import Patience
from edge_agent.api.answers.taking_up import (
    LAST_EVENT_ID,
    AnswerPlace,
    asks_to_take_up,
    comes_back,
    owner_of,
    place_in,
    place_of_event,
)
from edge_agent.api.error_shapes import Failure
from edge_agent.api.errors import failure_of, internal_failure, refusal
from edge_agent.api.requests.client_request import ClientRequest
from edge_agent.generation.generation import (
    Events,
    Finished,
    Generator,
)
from edge_agent.generation.waiting_line import Place
from shared.errors import GoodspeedError, LocalProtocolError

logger = logging.getLogger(__name__)

# How often what is kept is measured, in events of one answer.
_EVENTS_BETWEEN_LOOKS = 64


class StreamedAnswers:
    """Of one agent."""

    def __init__(
        self,
        generator: Generator,
        patience: Patience,
        place_of: Callable[[int], Place | None],
        num_waiting: Callable[[], int],
    ) -> None:
        self._generator = generator
        self._patience = patience
        self._place_of = place_of
        self._kept = KeptStreams(patience.grace_seconds, num_waiting)

    async def close(self, _app: web.Application) -> None:
        """End the answers that are kept for clients that may come back."""
        await self._kept.close()

    async def answer(
        self,
        request: web.Request,
        asked: ClientRequest,
        shape: AnswerShape,
        headers: Mapping[str, str],
    ) -> web.StreamResponse:
        """Generate what is asked for, or go on with the answer whose last event is named."""
        if shape.answer_id is not None and asks_to_take_up(request.headers):
            return await self._take_up(request, place_of_event(request.headers[LAST_EVENT_ID]))
        stream = KeptStream(
            shape,
            owner_of(request.headers),
            comes_back=asked.comes_back or comes_back(request.headers),
        )
        self._kept.begin(stream, self._generate(asked, stream))
        return await self._tell(request, stream, 0, headers)

    async def take_up(self, request: web.Request, answer_id: str) -> web.StreamResponse:
        """The events of this answer, from the place on that the request names."""
        return await self._take_up(request, place_in(answer_id, request.headers, request.query))

    def find(self, request: web.Request, answer_id: str) -> KeptStream | None:
        """The answer, if it is kept for the key of the request."""
        return self._kept.find(answer_id, owner_of(request.headers))

    def stop(self, stream: KeptStream) -> None:
        """End it, and keep nothing of it."""
        self._kept.stop(stream)

    def stop_at_wish(self, request: web.Request, kind: str) -> web.Response:
        """End the answer that the path names; `kind` is what OpenAI's API calls that."""
        stream = self.find(request, request.match_info["id"])
        if stream is None:
            return self.nothing_kept(request)
        self.stop(stream)
        return web.json_response({"id": stream.id, "object": kind, "deleted": True})

    def nothing_kept(self, request: web.Request) -> web.Response:
        """The refusal of a request for an answer that is not here, or not for this key."""
        sentence = (
            "no such answer is kept for this key: answers are kept for "
            f"{self._patience.grace_seconds:g} s, and end with their connection unless their "
            f"client accepts text/event-stream; ask anew, without {LAST_EVENT_ID}"
        )
        failure = Failure(HTTPStatus.NOT_FOUND, sentence, code="answer_not_kept")
        return refusal(request, failure)

    async def _take_up(self, request: web.Request, place: AnswerPlace | None) -> web.StreamResponse:
        stream = None if place is None else self.find(request, place.answer_id)
        if place is None or stream is None:
            return self.nothing_kept(request)
        return await self._tell(request, stream, place.num_known, {})

    async def _tell(
        self,
        request: web.Request,
        stream: KeptStream,
        num_known: int,
        headers: Mapping[str, str],
    ) -> web.StreamResponse:
        """Read on until the end of the answer, or of the connection."""
        shape = stream.shape
        async with EventStream(
            request,
            headers,
            media_type=shape.media_type,
            keepalive=lambda: shape.keepalive(self._place_of(stream.stream_id)),
            keepalive_seconds=self._patience.keepalive_seconds,
        ) as told:
            try:
                async with (
                    HalfClosed(request, told.show_life),
                    self._kept.reading(stream, num_known) as events,
                ):
                    if num_known:  # a client that comes back is told at once that it is heard
                        await told.send(shape.keepalive(None))
                    async for some in events:
                        if stream.log.failure is not None and not told.response.prepared:
                            return refusal(request, stream.log.failure)
                        await told.send(some)
            except EventForgotten:
                return self.nothing_kept(request)
            except ClientGone as error:
                logger.debug("the client is gone: %s", error)
            return told.response

    async def _generate(self, asked: ClientRequest, stream: KeptStream) -> None:
        log, shape = stream.log, stream.shape
        try:
            async with start_answer(self._generator, asked, stream.stream_id) as events:
                await self._write(log, events, shape)
            return
        except GoodspeedError as error:
            failure = failure_of(error)
        except Exception:
            logger.exception("an answer failed")
            failure = internal_failure()
        if not log.num_events:
            log.failure = failure
        log.write(shape.failing(failure))

    async def _write(self, log: EventLog, events: Events, shape: AnswerShape) -> None:
        has_begun = False
        async for event in events:
            lines = b"" if has_begun else shape.opening()
            has_begun = True
            if isinstance(event, Finished):
                log.write(lines + shape.ending(event))
                return
            log.write(lines + await piece_lines(shape, event))
            if log.num_events % _EVENTS_BETWEEN_LOOKS == 0:
                self._kept.make_room()
        raise LocalProtocolError("the generation ended without a finish")
