"""The HTTP side of a board: OpenAI's endpoints, the chat socket and page, and a health check.

It must never know how text is generated (`edge_agent.generation` does), and it never puts prompts
or answers into a log.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import hdrs, web

from edge_agent.api.access import bears_token, guard
from edge_agent.api.chat_socket import ChatSockets
from edge_agent.api.content_encoding import decoded
from edge_agent.api.errors import errors_in_openai_shape, failure_of, internal_failure
from edge_agent.api.event_stream import ClientGone, EventStream
from edge_agent.api.large_body import SHORT_BODY_BYTES, BodyReader
from edge_agent.api.large_body_reader import BodyKind
from edge_agent.api.openai_response import (
    DONE,
    Envelope,
    answer_headers,
    event_line,
    first_chunk,
    last_chunks,
    model_list,
    text_chunk,
    whole_answer,
)
from edge_agent.api.requests.client_request import ClientRequest
from edge_agent.api.requests.request_fields import ignored_header
from edge_agent.generation.generation import (
    Events,
    Finished,
    Generator,
    TextPiece,
    start_generation,
)
from edge_agent.web.routes import add_page
from shared.daemon.http_server import HEALTH_PATH, HttpServer, in_hand, start_http_server
from shared.daemon.local_requests import LOOPBACK_HOSTS
from shared.daemon.strangers import StrangerLimits
from shared.errors import GoodspeedError, LocalProtocolError
from shared.protocol.prompt_parts import MAX_PROMPT_BYTES

logger = logging.getLogger(__name__)

# The longest prompt, and a quarter as much for what JSON adds. Whether its tokens fit the context
# is the verifier's to say.
MAX_BODY_BYTES = MAX_PROMPT_BYTES * 5 // 4
# Requests and chat sockets; each takes up to 256 KiB while its body comes, but for a few.
MAX_REQUESTS_IN_HAND = 128
MAX_LARGE_BODIES = 4  # that come or are read at once: the others wait for their turn
# A browser opens six to a host.
MAX_IDLE_CONNECTIONS = 128
SHUTDOWN_SECONDS = 2.0  # for answers that are on their way
_UNKNOWN_MODEL = "goodspeed"  # an answer may begin while the verifier is on its way


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the API waits for whom."""

    body_seconds: float = 10.0  # for a request's body; aiohttp itself would wait for ever
    keepalive_seconds: float = 5.0  # of silence in an event stream, then a comment


def build_app(
    generator: Generator,
    *,
    api_token: str | None,
    model_id: str | None = None,
    allowed_hosts: frozenset[str] | None = LOOPBACK_HOSTS,
    patience: Patience = Patience(),
) -> web.Application:
    """The application; `serve` lets clients in.

    `model_id` replaces the target's name. `allowed_hosts` are the names under which clients may ask
    for the board; None, for a bind beyond loopback (which needs a token), allows any.
    """
    app = web.Application(
        client_max_size=MAX_BODY_BYTES,
        middlewares=[
            errors_in_openai_shape,
            in_hand(MAX_REQUESTS_IN_HAND),
            guard(api_token, allowed_hosts),
        ],
    )
    reader = BodyReader()
    endpoints = _Endpoints(generator, model_id, api_token, patience, reader)
    chat_sockets = ChatSockets(generator, reader)
    app.router.add_get(HEALTH_PATH, endpoints.health)
    app.router.add_get("/v1/models", endpoints.models)
    app.router.add_post("/v1/chat/completions", endpoints.chat_completion)
    app.router.add_post("/v1/completions", endpoints.completion)
    app.router.add_get("/v1/chat/socket", chat_sockets.serve)
    add_page(app.router)
    app.on_shutdown.append(chat_sockets.close_all)
    return app


async def serve(
    app: web.Application,
    sockets: Sequence[socket.socket],
    stranger_limits: StrangerLimits | None = None,
) -> HttpServer:
    """Let clients in; one that leaves ends its generation at once.

    `stranger_limits`: for those who show no token, where the app asks for one.
    """
    return await start_http_server(
        app,
        sockets,
        logger=logging.getLogger("edge_agent.http"),
        max_idle_connections=MAX_IDLE_CONNECTIONS,
        shutdown_seconds=SHUTDOWN_SECONDS,
        cancels_handlers=True,
        stranger_limits=stranger_limits,
    )


class _Endpoints:
    def __init__(
        self,
        generator: Generator,
        model_id: str | None,
        api_token: str | None,
        patience: Patience,
        reader: BodyReader,
    ) -> None:
        self._generator = generator
        self._api_token = api_token
        self._model_id = model_id
        self._patience = patience
        self._reader = reader
        self._large_bodies = asyncio.Semaphore(MAX_LARGE_BODIES)

    async def health(self, request: web.Request) -> web.Response:
        """A board without its verifier is healthy: it answers, if with a 503.

        Strangers learn no more than that it is well.
        """
        health: dict[str, str | bool] = {"status": "ok"}
        if self._api_token is None or bears_token(request.headers, self._api_token):
            health["verifier_connected"] = self._generator.target_model is not None
        return web.json_response(health)

    async def models(self, _request: web.Request) -> web.Response:
        return web.json_response(model_list(self._model()))

    async def chat_completion(self, request: web.Request) -> web.StreamResponse:
        asked = await self._read(request, "chat")
        return await self._answer(request, asked, self._envelope("chatcmpl", is_chat=True))

    async def completion(self, request: web.Request) -> web.StreamResponse:
        asked = await self._read(request, "completion")
        return await self._answer(request, asked, self._envelope("cmpl", is_chat=False))

    async def _read(self, request: web.Request, kind: BodyKind) -> ClientRequest:
        size = request.content_length
        if size is not None and size > MAX_BODY_BYTES:
            raise web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES, size)
        if size is not None and size <= SHORT_BODY_BYTES and not _is_compressed(request):
            return await self._reader.read(await self._body(request), kind)
        async with self._large_bodies:
            return await self._reader.read(await self._body(request), kind)

    async def _body(self, request: web.Request) -> bytes:
        try:
            async with asyncio.timeout(self._patience.body_seconds):
                body = await request.read()
        except TimeoutError:
            raise web.HTTPRequestTimeout(
                text=f"the body did not arrive within {self._patience.body_seconds:g} s",
                headers={hdrs.CONNECTION: "close"},
            ) from None
        except web.RequestPayloadError:
            raise web.HTTPBadRequest(
                text="the body is not what its headers say", headers={hdrs.CONNECTION: "close"}
            ) from None
        encoding = request.headers.get(hdrs.CONTENT_ENCODING, "")
        return await decoded(body, encoding, MAX_BODY_BYTES)

    async def _answer(
        self, request: web.Request, asked: ClientRequest, envelope: Envelope
    ) -> web.StreamResponse:
        headers = ignored_header(asked.ignored)
        async with start_generation(self._generator, asked.generation) as events:
            if not asked.is_streamed:
                response = await _answer_whole(events, envelope)
                response.headers.update(headers)
                return response
            async with EventStream(request, self._patience.keepalive_seconds, headers) as stream:
                try:
                    await _answer_streamed(stream, events, envelope, asked.includes_usage)
                except ClientGone as error:
                    logger.debug("the client is gone: %s", error)
                return stream.response

    def _envelope(self, prefix: str, *, is_chat: bool) -> Envelope:
        model = self._model() or _UNKNOWN_MODEL
        return Envelope(f"{prefix}-{uuid.uuid4().hex}", int(time.time()), model, is_chat)

    def _model(self) -> str | None:
        return self._model_id or self._generator.target_model


def _is_compressed(request: web.Request) -> bool:
    """Whether a body is longer than its headers say."""
    return hdrs.CONTENT_ENCODING in request.headers


async def _answer_whole(events: Events, envelope: Envelope) -> web.Response:
    texts: list[str] = []
    async for event in events:
        if isinstance(event, Finished):
            body = whole_answer(envelope, "".join(texts), event)
            return web.json_response(body, headers=answer_headers(event))
        texts.append(event.text)
    raise LocalProtocolError("the generation ended without a finish")


async def _answer_streamed(
    stream: EventStream, events: Events, envelope: Envelope, includes_usage: bool
) -> None:
    opening = [first_chunk(envelope)] if envelope.is_chat else []
    try:
        async for event in events:
            if isinstance(event, TextPiece):
                chunks = [*opening, text_chunk(envelope, event)]
            else:
                chunks = [*opening, *last_chunks(envelope, event, includes_usage)]
            opening = []
            await stream.send(b"".join(event_line(chunk) for chunk in chunks))
    except GoodspeedError as error:
        if not stream.response.prepared:
            raise
        await stream.send(event_line(failure_of(error).body))
    except ClientGone:
        raise
    except Exception:
        if not stream.response.prepared:
            raise
        logger.exception("an answer failed half-way")
        await stream.send(event_line(internal_failure().body))
    await stream.send(DONE)
