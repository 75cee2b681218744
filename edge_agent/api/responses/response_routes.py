"""The endpoint of OpenAI's Responses API. This module must never read a field itself."""

from __future__ import annotations

import time
import uuid

from aiohttp import web

from edge_agent.api.answers.answering import Answering
from edge_agent.api.responses.response_answer import ResponseAnswer, ResponseNames


class ResponseEndpoints:
    """Of one agent."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Serve them."""
        router.add_post("/v1/responses", self._response)
        router.add_get("/v1/responses/{id}", self._retrieve)
        router.add_post("/v1/responses/{id}/cancel", self._cancel)
        router.add_delete("/v1/responses/{id}", self._delete)

    async def _response(self, request: web.Request) -> web.StreamResponse:
        asked = await self._answering.read(request, "responses")
        number = uuid.uuid4().hex
        names = ResponseNames(
            response_id=f"resp_{number}",
            created_at=int(time.time()),
            model=self._answering.model_name,
        )
        return await self._answering.answer(request, asked, ResponseAnswer(names, asked))

    async def _retrieve(self, request: web.Request) -> web.StreamResponse:
        """While it comes or is kept; as a stream from any event on."""
        streamed = self._answering.streamed
        if request.query.get("stream") == "true":
            return await streamed.take_up(request, request.match_info["id"])
        stream = streamed.find(request, request.match_info["id"])
        if stream is None or not isinstance(stream.shape, ResponseAnswer):
            return streamed.nothing_kept(request)
        return web.json_response(stream.shape.so_far)

    async def _cancel(self, request: web.Request) -> web.Response:
        streamed = self._answering.streamed
        stream = streamed.find(request, request.match_info["id"])
        if stream is None or not isinstance(stream.shape, ResponseAnswer):
            return streamed.nothing_kept(request)
        if stream.log.is_over:
            return web.json_response(stream.shape.so_far)
        streamed.stop(stream)
        return web.json_response(stream.shape.so_far | {"status": "cancelled"})

    async def _delete(self, request: web.Request) -> web.Response:
        return self._answering.streamed.stop_at_wish(request, "response")
