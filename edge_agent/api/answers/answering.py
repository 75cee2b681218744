"""From a request to its answer, whole or streamed; the shapes of dialects are others' to say.

It must never know a field or a word of a dialect.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from edge_agent.api.answers.answer_shape import AnswerShape
from edge_agent.api.answers.choices import start_answer
from edge_agent.api.answers.half_closed import HalfClosed, interim_response
from edge_agent.api.answers.long_answers import whole_response
from edge_agent.api.answers.streamed_answers import StreamedAnswers
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
from shared.errors import LocalProtocolError

_UNKNOWN_MODEL = "goodspeed"  # an answer may begin while the verifier is on its way


class Answering:
    """What all endpoints of one agent share."""

    def __init__(
        self,
        generator: Generator,
        bodies: RequestBodies,
        streamed: StreamedAnswers,
        model_id: str | None,
    ) -> None:
        self.generator = generator
        self.streamed = streamed
        self._bodies = bodies
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
        if asked.is_streamed:
            return await self.streamed.answer(request, asked, shape, headers)
        async with (
            start_answer(self.generator, asked, new_stream_id()) as events,
            HalfClosed(request, interim_response(request)),
        ):
            return await _answer_whole(events, shape, headers)


async def _answer_whole(
    events: Events, shape: AnswerShape, headers: Mapping[str, str]
) -> web.Response:
    pieces: list[TextPiece] = []
    async for event in events:
        if isinstance(event, Finished):
            all_headers = {**answer_headers(event), **headers}
            return await whole_response(shape, pieces, event, all_headers)
        pieces.append(event)
    raise LocalProtocolError("the generation ended without a finish")
