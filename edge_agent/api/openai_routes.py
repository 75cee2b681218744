"""OpenAI's endpoints of chats, completions and models, and the shape of their answers.

This module must never read a field of a request itself.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from aiohttp import web

from edge_agent.api.answers.answer_shape import AnswerShape
from edge_agent.api.answers.answering import Answering
from edge_agent.api.answers.spoken_answer import SpokenAnswer
from edge_agent.api.answers.token_logprobs import CompletionLogprobs, chat_logprobs
from edge_agent.api.anthropic import message_answer
from edge_agent.api.error_shapes import Failure, dialect_of, error_body
from edge_agent.api.errors import refusal
from edge_agent.api.json_fields import shown
from edge_agent.api.large_body_reader import BodyKind
from edge_agent.api.openai_choices import OpenAIChoices
from edge_agent.api.openai_response import (
    DONE,
    EVENT_STREAM,
    Envelope,
    event_line,
    first_chunk,
    keepalive_comment,
    last_chunks,
    model_list,
    model_object,
    text_chunk,
    whole_answer,
)
from edge_agent.api.requests.client_request import ClientRequest
from edge_agent.generation.generation import Finished, PromptPiece, ScoredToken, TextPiece


class OpenAIAnswer:
    """A chat completion or a plain one; see `edge_agent.api.answers.answer_shape.AnswerShape`."""

    media_type = EVENT_STREAM
    keepalive = staticmethod(keepalive_comment)

    def __init__(self, envelope: Envelope, *, includes_usage: bool) -> None:
        self.envelope = envelope
        self._includes_usage = includes_usage
        self._num_scored = 0  # tokens whose log-probabilities were told
        self._completion_logprobs = CompletionLogprobs()
        self._has_scored_prompt = False
        self._num_calls = 0

    @property
    def answer_id(self) -> str:
        return self.envelope.response_id

    def whole(self, answer: SpokenAnswer, finished: Finished) -> dict[str, Any]:
        return whole_answer(self.envelope, answer, finished)

    def opening(self) -> bytes:
        return event_line(first_chunk(self.envelope)) if self.envelope.is_chat else b""

    def piece(self, piece: TextPiece) -> bytes:
        if isinstance(piece, PromptPiece):
            return self._echo(piece)
        self._num_calls += piece.part == "call"
        chunk = text_chunk(self.envelope, piece, self._num_calls)
        return event_line(self._with_logprobs(chunk, piece.logprobs))

    def end(self, finished: Finished) -> bytes:
        """Of the choice alone, in a stream that may go on with others."""
        chunks = last_chunks(self.envelope, finished, self._includes_usage, self._num_calls)
        end = finished.end_logprobs if self._has_scored_prompt else ()
        self._with_logprobs(chunks[0], (*finished.logprobs[self._num_scored :], *end))
        return b"".join(event_line(chunk) for chunk in chunks)

    def ending(self, finished: Finished) -> bytes:
        return self.end(finished) + DONE

    def _echo(self, prompt: PromptPiece) -> bytes:
        chunk = text_chunk(self.envelope, prompt)
        self._completion_logprobs.begin_behind(prompt)
        if prompt.logprobs:
            self._has_scored_prompt = True
            chunk["choices"][0]["logprobs"] = self._completion_logprobs.told(prompt.logprobs)
        return event_line(chunk)

    def _with_logprobs(
        self, chunk: dict[str, Any], tokens: Sequence[ScoredToken]
    ) -> dict[str, Any]:
        """The chunk with those of the tokens since the one before."""
        if tokens:
            self._num_scored += len(tokens)
            is_chat, (choice,) = self.envelope.is_chat, chunk["choices"]
            told = chat_logprobs if is_chat else self._completion_logprobs.told
            choice["logprobs"] = told(tokens)
        return chunk

    def failing(self, failure: Failure) -> bytes:
        return event_line(error_body("openai", failure)) + DONE


class OpenAIEndpoints:
    """Of one agent."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Serve them."""
        router.add_get("/v1/models", self._models)
        router.add_get("/v1/models/{id:.+}", self._one_model)
        router.add_post("/v1/chat/completions", self._chat_completion)
        router.add_post("/v1/completions", self._completion)
        for path in ("/v1/chat/completions/{id}", "/v1/completions/{id}"):
            router.add_get(f"{path}/events", self._events)
            router.add_delete(path, self._stop)

    async def _models(self, request: web.Request) -> web.Response:
        model = self._answering.model
        if dialect_of(request.path, request.headers) == "anthropic":
            return web.json_response(message_answer.model_page(model))
        return web.json_response(model_list(model))

    async def _one_model(self, request: web.Request) -> web.Response:
        asked, model = request.match_info["id"], self._answering.model
        if asked != model:
            served = "no model now" if model is None else f"{model} alone"
            sentence = f"this board serves {served}, not {shown(asked)}"
            failure = Failure(HTTPStatus.NOT_FOUND, sentence, code="model_not_found")
            return refusal(request, failure)
        if dialect_of(request.path, request.headers) == "anthropic":
            return web.json_response(message_answer.model_object(model))
        return web.json_response(model_object(model))

    async def _chat_completion(self, request: web.Request) -> web.StreamResponse:
        envelope = self._envelope("chatcmpl", is_chat=True)
        return await self._answer(request, "chat", envelope)

    async def _completion(self, request: web.Request) -> web.StreamResponse:
        envelope = self._envelope("cmpl", is_chat=False)
        return await self._answer(request, "completion", envelope)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        return await self._answering.streamed.take_up(request, request.match_info["id"])

    async def _stop(self, request: web.Request) -> web.Response:
        return self._answering.streamed.stop_at_wish(request, "chat.completion.deleted")

    async def _answer(
        self, request: web.Request, kind: BodyKind, envelope: Envelope
    ) -> web.StreamResponse:
        asked = await self._answering.read(request, kind)
        return await self._answering.answer(request, asked, _shape(envelope, asked))

    def _envelope(self, prefix: str, *, is_chat: bool) -> Envelope:
        response_id = f"{prefix}-{uuid.uuid4().hex}"
        return Envelope(response_id, int(time.time()), self._answering.model_name, is_chat)


def _shape(envelope: Envelope, asked: ClientRequest) -> AnswerShape:
    """Of one choice, or of several."""
    includes_usage = asked.includes_usage
    envelope = replace(
        envelope,
        echoes_prompt=asked.echoes_prompt,
        tells_prompt_logprobs=asked.tells_prompt_logprobs,
    )
    if not asked.others:
        return OpenAIAnswer(envelope, includes_usage=includes_usage)
    num_told = (1 + len(asked.others)) // asked.num_choices * asked.num_told
    answers = [
        OpenAIAnswer(replace(envelope, index=i), includes_usage=False) for i in range(num_told)
    ]
    return OpenAIChoices(answers, asked.num_told, includes_usage=includes_usage)
