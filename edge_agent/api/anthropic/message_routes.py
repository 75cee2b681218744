"""The endpoint of Anthropic's Messages API. This module must never read a field itself."""

from __future__ import annotations

import uuid

from aiohttp import web

from edge_agent.api.answers.answering import Answering
from edge_agent.api.anthropic.message_answer import MessageAnswer


class MessageEndpoints:
    """Of one agent."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Serve them."""
        router.add_post("/v1/messages", self._message)
        router.add_get("/v1/messages/{id}/events", self._events)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        return await self._answering.streamed.take_up(request, request.match_info["id"])

    async def _message(self, request: web.Request) -> web.StreamResponse:
        asked = await self._answering.read(request, "messages")
        message_id = f"msg_{uuid.uuid4().hex}"
        shape = MessageAnswer(message_id, self._answering.model_name, asked.generation.stop)
        return await self._answering.answer(request, asked, shape)
