"""Every failure of a request as one answer, in the words of the client's dialect."""

from __future__ import annotations

import logging
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler

from edge_agent.api.error_shapes import Failure, dialect_of, error_body
from edge_agent.api.known_paths import hint_for
from shared.daemon.peer_text import one_line
from shared.errors import (
    GoodspeedError,
    HandshakeRejected,
    PromptTooLong,
    RequestRefused,
    TooManyStreams,
    VerifierAway,
)

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 5  # about two tries of the agent's own to reach the verifier

_KEPT_HEADERS = ("Allow", "Connection", "Retry-After")


def failure_of(error: GoodspeedError) -> Failure:
    """What a client gets for the error."""
    sentence = str(error)
    match error:
        case PromptTooLong():
            lengths = (error.num_tokens, error.most_tokens)
            code, status = "context_length_exceeded", HTTPStatus.BAD_REQUEST
            return Failure(status, sentence, param=error.field, code=code, prompt_lengths=lengths)
        case RequestRefused():
            return Failure(HTTPStatus.BAD_REQUEST, sentence, param=error.field)
        case TooManyStreams():
            headers = {"Retry-After": str(error.retry_after_seconds or RETRY_AFTER_SECONDS)}
            kind, code = "rate_limit_error", "too_many_streams"
            status = HTTPStatus.TOO_MANY_REQUESTS
            return Failure(status, sentence, kind, code=code, headers=headers)
        case HandshakeRejected():
            # OpenAI's clients try again after any 5xx, unless they are told that it is futile.
            headers = {"X-Should-Retry": "false"}
            code = "verifier_refuses"
            return Failure(
                HTTPStatus.BAD_GATEWAY, sentence, "server_error", code=code, headers=headers
            )
        case VerifierAway():
            headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
            status, code = HTTPStatus.SERVICE_UNAVAILABLE, "verifier_away"
            return Failure(status, sentence, "server_error", code=code, headers=headers)
        case _:
            return Failure(HTTPStatus.BAD_GATEWAY, sentence, "server_error")


def internal_failure() -> Failure:
    """What a client gets for a bug of ours; the log has the rest."""
    sentence = "the agent failed; its log says why"
    return Failure(HTTPStatus.INTERNAL_SERVER_ERROR, sentence, "server_error", code="internal")


def refusal(request: web.Request, failure: Failure) -> web.Response:
    """The failure as an answer to the request, in its dialect."""
    body = error_body(dialect_of(request.path, request.headers), failure)
    return web.json_response(body, status=failure.status, headers=failure.headers)


@web.middleware
async def errors_in_the_clients_words(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The outermost middleware; whatever a route raises becomes a JSON answer."""
    try:
        return await handler(request)
    except GoodspeedError as error:
        return refusal(request, failure_of(error))
    except web.HTTPException as error:
        return refusal(request, _http_failure(request, error))
    except ConnectionError:
        return web.Response(status=HTTPStatus.BAD_REQUEST)  # never read: the client is gone
    except Exception:
        logger.exception("%s %s failed", one_line(request.method), one_line(request.path))
        return refusal(request, internal_failure())


def _http_failure(request: web.Request, error: web.HTTPException) -> Failure:
    match error:
        case web.HTTPNotFound():
            known = [resource.canonical for resource in request.app.router.resources()]
            hint = hint_for(request.path, known)
            sentence = f"unknown URL ({request.method} {request.path})" + (hint and f": {hint}")
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            sentence = f"method {request.method} is not allowed for {request.path}; use {allowed}"
        case _:
            sentence = " ".join((error.text or error.reason).split())
    headers = {name: error.headers[name] for name in _KEPT_HEADERS if name in error.headers}
    return Failure(HTTPStatus(error.status), sentence, headers=headers)
