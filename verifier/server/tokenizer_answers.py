"""What boards ask of the tokenizer over HTTP: its vocabulary, and the ids of a prompt."""

from __future__ import annotations

import asyncio

from aiohttp import web

from shared.errors import RemoteProtocolError, RequestRefused
from shared.protocol.token_ids import pack_token_ids
from shared.protocol.token_question import MAX_QUESTION_BYTES, TokenQuestion, unpack_question
from shared.protocol.vocabulary import pack_vocabulary, vocabulary_tag
from verifier.engine.device import Device
from verifier.target.target import Tokenizer

# In messages: a request of HTTP and the longest prompt's 0.1 s in the thread of its device.
QUESTION_COST = 250
QUESTION_SECONDS = 30.0  # for all of it to come


class TokenizerAnswers:
    """Of one verifier; who asks, and how often, is its server's to check."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        # Begun when the first board without a model asks.
        self._making_vocabulary: asyncio.Task[tuple[bytes, str]] | None = None

    async def vocabulary(self, request: web.Request) -> web.Response:
        """The bytes of every id; a board that has them already is told so."""
        packed, tag = await self._packed_vocabulary()
        if any(known.value == tag for known in request.if_none_match or ()):
            return web.Response(status=304)
        answer = web.Response(body=packed, content_type="application/msgpack")
        answer.etag = tag
        return answer

    async def tokens(self, request: web.Request, device: Device) -> web.Response:
        """The ids of a prompt; nothing is generated."""
        question = await _read_question(request)
        try:
            packed = await device.in_thread(self._packed_ids_of, question)
        except RequestRefused as error:
            raise web.HTTPUnprocessableEntity(text=str(error)) from None
        return web.Response(body=packed, content_type="application/octet-stream")

    async def _packed_vocabulary(self) -> tuple[bytes, str]:
        """The vocabulary and its tag, made once: 150,000 tokens take 0.1 s."""
        if self._making_vocabulary is None:
            self._making_vocabulary = asyncio.create_task(
                asyncio.to_thread(_pack, self._tokenizer), name="pack vocabulary"
            )
        return await asyncio.shield(self._making_vocabulary)

    def _packed_ids_of(self, question: TokenQuestion) -> bytes:
        """Takes a while, and raises as `Tokenizer.encode_chat`."""
        if question.messages:
            token_ids = self._tokenizer.encode_chat(question.messages, question.template)
        else:
            adds_special = question.adds_special
            token_ids = self._tokenizer.encode_text(question.text, adds_special=adds_special)
        return pack_token_ids(token_ids)


async def _read_question(request: web.Request) -> TokenQuestion:
    """The question in a request's body; one that came compressed is not unpacked.

    Raises:
        HTTPException: it is too long, too slow, or none.
    """
    num_bytes = request.content_length
    if num_bytes is None or num_bytes > MAX_QUESTION_BYTES:
        raise web.HTTPRequestEntityTooLarge(MAX_QUESTION_BYTES, num_bytes or 0)
    try:
        async with asyncio.timeout(QUESTION_SECONDS):
            body = await request.content.readexactly(num_bytes)
    except (TimeoutError, asyncio.IncompleteReadError) as error:
        raise web.HTTPBadRequest(text="the question did not arrive\n") from error
    try:
        return unpack_question(body)
    except RemoteProtocolError as error:
        raise web.HTTPBadRequest(text=f"{error}\n") from None


def _pack(tokenizer: Tokenizer) -> tuple[bytes, str]:
    packed = pack_vocabulary(tokenizer.token_bytes)
    return packed, vocabulary_tag(packed)
