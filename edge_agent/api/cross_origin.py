"""Pages of other sites that the board's owner lets in, by the rules of browsers (CORS): pure.

This module must never say who is let in; `edge_agent.api.access` does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from aiohttp import hdrs

_METHODS = "GET, POST, OPTIONS"
_MAX_AGE_SECONDS = "600"  # for a browser to remember it
# Beside those that every page may read.
_EXPOSED = "Retry-After, X-Goodspeed-Ignored, X-Goodspeed-Seed, X-Goodspeed-Acceptance-Mode"
_HEADER_NAMES = re.compile(r"[\w!#$%&'*+.^`|~-]+(\s*,\s*[\w!#$%&'*+.^`|~-]+)*", re.ASCII)
_ASKS_FOR_A_PRIVATE_NETWORK = "Access-Control-Request-Private-Network"
_ALLOWS_A_PRIVATE_NETWORK = "Access-Control-Allow-Private-Network"


def is_preflight(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a browser asks for a page what it may ask, which it does without any token."""
    return method == hdrs.METH_OPTIONS and hdrs.ACCESS_CONTROL_REQUEST_METHOD in headers


def preflight_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The answer to that: all methods and the headers that it names."""
    answer: dict[str, str] = {
        hdrs.ACCESS_CONTROL_ALLOW_METHODS: _METHODS,
        hdrs.ACCESS_CONTROL_MAX_AGE: _MAX_AGE_SECONDS,
    }
    wanted = headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, "")
    if _HEADER_NAMES.fullmatch(wanted):
        answer[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = wanted
    if headers.get(_ASKS_FOR_A_PRIVATE_NETWORK) == "true":
        answer[_ALLOWS_A_PRIVATE_NETWORK] = "true"
    return answer


def origin_headers(origin: str) -> dict[str, str]:
    """What lets a page of this origin read any answer, a refusal too."""
    return {
        hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: origin,
        hdrs.ACCESS_CONTROL_EXPOSE_HEADERS: _EXPOSED,
        hdrs.VARY: hdrs.ORIGIN,
    }
