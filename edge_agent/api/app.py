"""The HTTP side of a board: the endpoints of all dialects, chat socket and page, health.

It must never know how text is generated (`edge_agent.generation` does), and it never puts prompts
or answers into a log.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable, Sequence

from aiohttp import web

from edge_agent.api.access import OPEN_PATHS, Access, bears_token, guard, origin_signal
from edge_agent.api.answers.answering import Answering
from edge_agent.api.answers.patience import PATIENCE, Patience
from edge_agent.api.answers.streamed_answers import StreamedAnswers
from edge_agent.api.anthropic.message_routes import MessageEndpoints
from edge_agent.api.chat_socket import ChatSockets, WaitingFor
from edge_agent.api.errors import errors_in_the_clients_words
from edge_agent.api.large_body import BodyReader
from edge_agent.api.ollama.ollama_routes import OllamaEndpoints
from edge_agent.api.openai_routes import OpenAIEndpoints
from edge_agent.api.request_bodies import MAX_BODY_BYTES, RequestBodies
from edge_agent.api.responses.response_routes import ResponseEndpoints
from edge_agent.api.tokenizing.token_routes import TokenEndpoints, Tokenizer
from edge_agent.generation.chat_messages import Waiting
from edge_agent.generation.generation import Generator
from edge_agent.generation.waiting_line import Place
from edge_agent.web.assets import read_assets
from shared.daemon.http_server import HttpServer, in_hand, start_http_server
from shared.daemon.strangers import StrangerLimits
from shared.web.served_page import add_page

# Requests and chat sockets; each takes up to 64 KiB while its body comes, but for a few.
MAX_REQUESTS_IN_HAND = 256
# A browser opens six to a host. A program that asks for 200 answers at once gets them all.
MAX_IDLE_CONNECTIONS = 256
SHUTDOWN_SECONDS = 2.0  # for answers that are on their way


def build_app(
    generator: Generator,
    access: Access,
    *,
    model_id: str | None = None,
    patience: Patience = PATIENCE,
    place_of: Callable[[int], Place | None] = lambda stream_id: None,
    num_waiting: Callable[[], int] = lambda: 0,
    hindrance: Callable[[], str] = lambda: "",
    tokenizer: Tokenizer | None = None,
) -> web.Application:
    """The application; `serve` lets clients in. `model_id` replaces the target's name.

    `place_of`: where a generation stands in line, if it does; `num_waiting`: how long that is;
    `hindrance`: what keeps all of them from an answer, in words, or nothing; `tokenizer`: the
    target's, where clients may ask it.
    """
    app = web.Application(
        client_max_size=MAX_BODY_BYTES,
        middlewares=[
            errors_in_the_clients_words,
            in_hand(MAX_REQUESTS_IN_HAND),
            guard(access),
        ],
    )
    reader = BodyReader()
    bodies = RequestBodies(reader, patience.body_seconds)
    streamed = StreamedAnswers(generator, patience, place_of, num_waiting)
    answering = Answering(generator, bodies, streamed, model_id)
    health = _Health(generator, access.api_token, hindrance)
    chat_sockets = ChatSockets(generator, reader, _waiting_for(place_of, hindrance))
    for path in sorted(OPEN_PATHS):
        app.router.add_get(path, health.tell)
    OpenAIEndpoints(answering).add_to(app.router)
    ResponseEndpoints(answering).add_to(app.router)
    MessageEndpoints(answering).add_to(app.router)
    OllamaEndpoints(answering).add_to(app.router)
    if tokenizer is not None:
        TokenEndpoints(answering, tokenizer).add_to(app.router)
    app.router.add_get("/v1/chat/socket", chat_sockets.serve)
    add_page(app.router, read_assets())
    app.on_response_prepare.append(origin_signal(access))
    app.on_shutdown.append(chat_sockets.close_all)
    app.on_shutdown.append(streamed.close)
    return app


async def serve(
    app: web.Application,
    sockets: Sequence[socket.socket],
    stranger_limits: StrangerLimits | None = None,
    tls: ssl.SSLContext | None = None,
) -> HttpServer:
    """Let clients in; one that leaves ends its generation at once.

    `stranger_limits`: for those who show no token, where the app asks for one. `tls`: None is plain
    text.
    """
    return await start_http_server(
        app,
        sockets,
        logger=logging.getLogger("edge_agent.http"),
        max_idle_connections=MAX_IDLE_CONNECTIONS,
        shutdown_seconds=SHUTDOWN_SECONDS,
        cancels_handlers=True,
        answers_half_closed=True,
        stranger_limits=stranger_limits,
        tls=tls,
    )


def _waiting_for(
    place_of: Callable[[int], Place | None], hindrance: Callable[[], str]
) -> WaitingFor:
    def waiting_for(stream_id: int) -> Waiting:
        place = place_of(stream_id)
        if place is None:
            return Waiting(because=hindrance())
        return Waiting(place.num_ahead, place.seconds, hindrance())

    return waiting_for


class _Health:
    def __init__(
        self, generator: Generator, api_token: str | None, hindrance: Callable[[], str]
    ) -> None:
        self._generator = generator
        self._api_token = api_token
        self._hindrance = hindrance

    async def tell(self, request: web.Request) -> web.Response:
        """A board without its verifier is healthy: it answers, if with a 503.

        Strangers learn no more than that it is well.
        """
        health: dict[str, str | bool] = {"status": "ok"}
        if self._api_token is None or bears_token(request.headers, self._api_token):
            health["verifier_connected"] = self._generator.target_model is not None
            if hindrance := self._hindrance():
                health["hindrance"] = hindrance
        return web.json_response(health)
