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

    async def _response(self, request: web.Request) -> web.StreamResponse:
        asked = await self._answering.read(request, "responses")
        number = uuid.uuid4().hex
        names = ResponseNames(
            response_id=f"resp_{number}",
            created_at=int(time.time()),
            model=self._answering.model_name,
        )
        return await self._answering.answer(request, asked, ResponseAnswer(names, asked))
