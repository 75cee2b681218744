"""The endpoints of the tokenizer. This module must never read a field itself."""

from __future__ import annotations

import asyncio
import io
from array import array
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
from aiohttp import web

from edge_agent.api.answers.answering import Answering
from edge_agent.api.requests.client_request import ClientRequest, TokenWish
from edge_agent.api.requests.request_fields import ignored_header
from edge_agent.api.tokenizing.token_answer import detokenize_answer, tokenize_answer
from shared.protocol.token_question import TokenQuestion


class Tokenizer(Protocol):
    """The target's; see `edge_agent.link.target_tokenizer.TargetTokenizer`."""

    @property
    def token_bytes(self) -> Sequence[bytes]: ...

    async def token_ids(self, question: TokenQuestion) -> array[int]: ...


class TokenEndpoints:
    """Of one agent."""

    def __init__(self, answering: Answering, tokenizer: Tokenizer) -> None:
        self._answering = answering
        self._tokenizer = tokenizer

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Serve them."""
        router.add_post("/tokenize", self._tokenize)
        router.add_post("/detokenize", self._detokenize)
        router.add_post("/v1/messages/count_tokens", self._count)

    async def _tokenize(self, request: web.Request) -> web.Response:
        asked = await self._answering.read(request, "tokenize")
        wish = asked.tokens or TokenWish()
        token_ids = await self._token_ids(asked, adds_special=wish.adds_special)
        token_bytes = self._tokenizer.token_bytes
        context_tokens = self._answering.generator.context_tokens
        return await _json(
            asked,
            lambda: tokenize_answer(token_ids.tolist(), token_bytes, wish, context_tokens),
        )

    async def _detokenize(self, request: web.Request) -> web.Response:
        asked = await self._answering.read(request, "detokenize")
        prompt_ids, token_bytes = asked.generation.prompt_ids, self._tokenizer.token_bytes
        return await _json(asked, lambda: detokenize_answer(prompt_ids, token_bytes))

    async def _count(self, request: web.Request) -> web.Response:
        """Anthropic's: how many tokens a message would be asked with."""
        asked = await self._answering.read(request, "messages")
        num_tokens = len(await self._token_ids(asked))
        return await _json(asked, lambda: {"input_tokens": num_tokens})

    async def _token_ids(self, asked: ClientRequest, *, adds_special: bool = True) -> array[int]:
        generation = asked.generation
        return await self._tokenizer.token_ids(
            TokenQuestion(generation.text, generation.messages, generation.template, adds_special)
        )


async def _json(asked: ClientRequest, answer: Callable[[], dict[str, Any]]) -> web.Response:
    """Made in a thread: of 100,000 tokens and their texts an answer takes 50 ms."""
    body = await asyncio.to_thread(lambda: io.BytesIO(msgspec.json.encode(answer())))
    # From a file aiohttp sends it piece by piece; tens of megabytes at once are copied by the loop.
    headers = ignored_header(asked.ignored)
    return web.Response(body=body, content_type="application/json", headers=headers)
