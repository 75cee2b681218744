"""Who may ask this board: API token, `Host` and `Origin`, checked before any body is read.

The decisions are pure functions; the middleware at the end only asks them.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from edge_agent.api.openai_response import error_object
from edge_agent.web.assets import read_assets
from shared.config.secrets import is_same_secret
from shared.daemon.connection_gate import gated_connection_of
from shared.daemon.http_server import HEALTH_PATH, bearer_token
from shared.daemon.local_requests import is_allowed_host, is_forwarded

# Browsers cannot set headers on a websocket: a page offers two subprotocols, this one and the token
# with the prefix, and the server picks this one.
CHAT_SUBPROTOCOL = "goodspeed.chat"
TOKEN_SUBPROTOCOL_PREFIX = "goodspeed.bearer."


def is_own_origin(origin: str, host_header: str) -> bool:
    """Whether a page of this origin came from the name that it now asks; `null` never did."""
    scheme, separator, host = origin.partition("://")
    return bool(separator) and scheme in ("http", "https") and host == host_header


def bears_token(headers: Mapping[str, str], api_token: str) -> bool:
    """Whether the request carries the token, as a bearer or as a websocket subprotocol."""
    token = bearer_token(headers)
    offered = [] if token is None else [token]
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


def guard(api_token: str | None, allowed_hosts: frozenset[str] | None) -> Middleware:
    """The middleware; without a token any key is ignored, without hosts any name will do.

    Without a token no proxy is let in either: what it passes on may be from anywhere.
    """
    # The page holds no secret, and asks its reader for the token.
    open_paths = frozenset({HEALTH_PATH, *read_assets()})

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get(hdrs.HOST, "")
        if allowed_hosts is not None and not is_allowed_host(host, allowed_hosts):
            return _refusal(403, f"host {host!r} is not a name of this board", "host")
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None and not is_own_origin(origin, host):
            return _refusal(403, f"pages of {origin!r} may not use this board", "origin")
        if not names_its_socket(request.headers):
            return _refusal(400, f"the only subprotocol is {CHAT_SUBPROTOCOL}", "subprotocol")
        if api_token is None and is_forwarded(request.headers):
            return _refusal(403, "through a proxy this board needs api.token_file", "proxy")
        if api_token is None or bears_token(request.headers, api_token):
            _welcome(request)
        elif request.path not in open_paths:
            _mistrust(request)
            response = _refusal(401, "the API token is missing or wrong", "invalid_api_key")
            response.headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
            return response
        return await handler(request)

    return check


def _welcome(request: web.Request) -> None:
    connection = gated_connection_of(request.transport)
    if connection is not None:
        connection.welcome()


def _mistrust(request: web.Request) -> None:
    """Slow down who shows a token that is wrong; who shows none just waits like any stranger."""
    connection = gated_connection_of(request.transport)
    shows_one = hdrs.AUTHORIZATION in request.headers or hdrs.SEC_WEBSOCKET_PROTOCOL in (
        request.headers
    )
    if connection is not None and shows_one:
        connection.mistrust()


def _refusal(status: int, sentence: str, code: str) -> web.Response:
    body = error_object(sentence, "invalid_request_error", code=code)
    return web.json_response(body, status=status)
