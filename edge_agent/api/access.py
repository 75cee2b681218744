"""Who may ask this board: API token, `Host` and `Origin`, checked before any body is read.

The decisions are pure functions; the middleware at the end only asks them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from edge_agent.api.cross_origin import is_preflight, origin_headers, preflight_headers
from edge_agent.api.error_shapes import Failure
from edge_agent.api.errors import refusal
from edge_agent.web.assets import read_assets
from shared.config.secrets import is_same_secret
from shared.daemon.connection_gate import gated_connection_of
from shared.daemon.http_server import HEALTH_PATH, bearer_token
from shared.daemon.local_requests import LOOPBACK_HOSTS, is_allowed_host, is_forwarded

# Browsers cannot set headers on a websocket: a page offers two subprotocols, this one and the token
# with the prefix, and the server picks this one.
CHAT_SUBPROTOCOL = "goodspeed.chat"
TOKEN_SUBPROTOCOL_PREFIX = "goodspeed.bearer."
API_KEY = "X-Api-Key"  # where Anthropic's clients put it
_TOKEN_HEADERS = (hdrs.AUTHORIZATION, hdrs.SEC_WEBSOCKET_PROTOCOL, API_KEY)

# Strangers may ask whether the board is well; the second name is llama-server's.
OPEN_PATHS = frozenset({HEALTH_PATH, "/health"})


def is_own_origin(origin: str, host_header: str) -> bool:
    """Whether a page of this origin came from the name that it now asks; `null` never did."""
    scheme, separator, host = origin.partition("://")
    return bool(separator) and scheme in ("http", "https") and host == host_header


def bears_token(headers: Mapping[str, str], api_token: str) -> bool:
    """Whether the request carries the token: as a bearer, Anthropic's way, or as a subprotocol."""
    offered = [token for token in (bearer_token(headers), headers.get(API_KEY)) if token]
    for protocol in headers.get(hdrs.SEC_WEBSOCKET_PROTOCOL, "").split(","):
        if protocol.strip().startswith(TOKEN_SUBPROTOCOL_PREFIX):
            offered.append(protocol.strip().removeprefix(TOKEN_SUBPROTOCOL_PREFIX))
    return any(is_same_secret(one, api_token) for one in offered)


def names_its_socket(headers: Mapping[str, str]) -> bool:
    """Whether a page that offers its token as a subprotocol offers the chat's, too.

    Without it nothing would be picked, and the HTTP server would log all that was offered.
    """
    offered = headers.get(hdrs.SEC_WEBSOCKET_PROTOCOL, "")
    return not offered or CHAT_SUBPROTOCOL in (name.strip() for name in offered.split(","))


@dataclass(frozen=True, slots=True)
class Access:
    """Who is let in; without a token any key is ignored, without hosts any name will do."""

    api_token: str | None = None
    allowed_hosts: frozenset[str] | None = LOOPBACK_HOSTS
    allowed_origins: frozenset[str] = frozenset()  # beside the board's own pages

    def lets_in_pages_of(self, origin: str) -> bool:
        """Whether the owner has named the origin, or its host with any scheme and port."""
        if origin.lower() in self.allowed_origins:
            return True
        scheme, separator, host = origin.partition("://")
        is_web = bool(separator) and scheme in ("http", "https")
        return is_web and is_allowed_host(host, self.allowed_origins)


def guard(access: Access) -> Middleware:
    """The middleware.

    Without a token no proxy is let in either: what it passes on may be from anywhere.
    """
    # The page holds no secret, and asks its reader for the token.
    open_paths = OPEN_PATHS | read_assets().keys()

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        failure = _refused(request, access)
        if failure is not None:
            return refusal(request, failure)
        if hdrs.ORIGIN in request.headers and is_preflight(request.method, request.headers):
            return web.Response(status=204, headers=preflight_headers(request.headers))
        if access.api_token is None or bears_token(request.headers, access.api_token):
            _welcome(request)
        elif request.path not in open_paths:
            _mistrust(request)
            sentence = "the API token is missing or wrong"
            challenge: dict[str, str] = {hdrs.WWW_AUTHENTICATE: "Bearer"}
            failure = Failure(
                HTTPStatus.UNAUTHORIZED, sentence, code="invalid_api_key", headers=challenge
            )
            return refusal(request, failure)
        return await handler(request)

    return check


def origin_signal(
    access: Access,
) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """For the application to call before every answer: pages that are let in may read it."""

    async def tell(request: web.Request, response: web.StreamResponse) -> None:
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None and access.lets_in_pages_of(origin):
            response.headers.update(origin_headers(origin))

    return tell


def _refused(request: web.Request, access: Access) -> Failure | None:
    """Why the request gets nothing, whatever its token is."""
    host = request.headers.get(hdrs.HOST, "")
    if access.allowed_hosts is not None and not is_allowed_host(host, access.allowed_hosts):
        sentence = f"host {host!r} is not a name of this board; api.allowed_hosts can add it"
        return Failure(HTTPStatus.FORBIDDEN, sentence, code="host")
    origin = request.headers.get(hdrs.ORIGIN)
    is_foreign = origin is not None and not is_own_origin(origin, host)
    if origin is not None and is_foreign and not access.lets_in_pages_of(origin):
        sentence = f"pages of {origin!r} may not use this board; api.allowed_origins can let them"
        return Failure(HTTPStatus.FORBIDDEN, sentence, code="origin")
    if not names_its_socket(request.headers):
        sentence = f"the only subprotocol is {CHAT_SUBPROTOCOL}"
        return Failure(HTTPStatus.BAD_REQUEST, sentence, code="subprotocol")
    if access.api_token is None and is_forwarded(request.headers):
        sentence = "through a proxy this board needs api.token_file"
        return Failure(HTTPStatus.FORBIDDEN, sentence, code="proxy")
    return None


def _welcome(request: web.Request) -> None:
    connection = gated_connection_of(request.transport)
    if connection is not None:
        connection.welcome()


def _mistrust(request: web.Request) -> None:
    """Slow down who shows a token that is wrong; who shows none just waits like any stranger."""
    connection = gated_connection_of(request.transport)
    if connection is not None and any(name in request.headers for name in _TOKEN_HEADERS):
        connection.mistrust()
