"""Ollama's endpoints. This module must never read a field of a prompt itself."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus

from aiohttp import web

from edge_agent.api.answers.answering import Answering
from edge_agent.api.error_shapes import Failure
from edge_agent.api.errors import refusal
from edge_agent.api.json_fields import read_field, read_json_object, shown
from edge_agent.api.ollama.ollama_answer import (
    API_VERSION,
    OllamaAnswer,
    model_details,
    model_tags,
    names_model,
    running_models,
)
from edge_agent.api.requests.client_request import ClientRequest
from edge_agent.api.requests.request_fields import ignored_header
from shared.errors import RequestRefused, VerifierAway

MAX_SHOW_BYTES = 64 * 1024  # of a question about a model


class OllamaEndpoints:
    """Of one agent."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Serve them."""
        router.add_post("/api/chat", self._chat)
        router.add_post("/api/generate", self._generate)
        router.add_post("/api/show", self._show)
        router.add_get("/api/tags", self._tags)
        router.add_get("/api/ps", self._running)
        router.add_get("/api/version", self._version)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        asked = await self._answering.read(request, "ollama chat")
        return await self._answer(request, asked, is_chat=True)

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        asked = await self._answering.read(request, "ollama generate")
        return await self._answer(request, asked, is_chat=False)

    async def _answer(
        self, request: web.Request, asked: ClientRequest, *, is_chat: bool
    ) -> web.StreamResponse:
        shape = OllamaAnswer(self._answering.model_name, datetime.now(UTC), is_chat=is_chat)
        if asked.keep_alive is None:
            return await self._answering.answer(request, asked, shape)
        if self._answering.model is None:
            raise VerifierAway("there is no verifier now, and so no model")
        nothing = shape.nothing(stays=asked.keep_alive)
        return web.json_response(nothing, headers=ignored_header(asked.ignored))

    async def _tags(self, _request: web.Request) -> web.Response:
        return web.json_response(model_tags(self._answering.model))

    async def _running(self, _request: web.Request) -> web.Response:
        context_tokens = self._answering.generator.context_tokens
        return web.json_response(running_models(self._answering.model, context_tokens))

    async def _version(self, _request: web.Request) -> web.Response:
        return web.json_response({"version": API_VERSION})

    async def _show(self, request: web.Request) -> web.Response:
        body = await self._answering.read_short(request, MAX_SHOW_BYTES)
        fields = read_json_object(body)
        asked = read_field(fields, "model", str) or read_field(fields, "name", str)
        if asked is None:
            raise RequestRefused("model must be a name, as /api/tags tells it", "model")
        model = self._answering.model
        if model is None or not names_model(asked, model):
            served = "no model now" if model is None else f"{model} alone"
            sentence = f"model {shown(asked)} not found: this board serves {served}"
            return refusal(request, Failure(HTTPStatus.NOT_FOUND, sentence))
        return web.json_response(model_details(model, self._answering.generator.context_tokens))
