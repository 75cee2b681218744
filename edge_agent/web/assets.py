"""The files of the web chat, as they lie in this package: bytes, type and version of each.

Pure but for reading these files. This module must never know a request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import PurePath
from typing import Final

import msgspec

PAGE_PATH: Final = "/"
PREFIX: Final = "/web/"
_FOLDER = "page"
_PAGE = "page.html"
_CONTENT_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
# Where the page names its modules, so that a browser asks for all of them at once.
_MODULES = b"<!-- modules -->"


class Asset(msgspec.Struct, frozen=True):
    """One file as a browser gets it."""

    body: bytes
    content_type: str
    etag: str  # of these bytes


@cache
def read_assets() -> Mapping[str, Asset]:
    """All of them by their path on the board; read once."""
    bodies = {
        entry.name: entry.read_bytes()
        for entry in files("edge_agent.web").joinpath(_FOLDER).iterdir()
        if PurePath(entry.name).suffix in _CONTENT_TYPES
    }
    bodies[_PAGE] = bodies[_PAGE].replace(_MODULES, _preloads(sorted(bodies)))
    return {_path(name): _asset(name, body) for name, body in bodies.items()}


def _path(name: str) -> str:
    return PAGE_PATH if name == _PAGE else PREFIX + name


def _asset(name: str, body: bytes) -> Asset:
    content_type = _CONTENT_TYPES[PurePath(name).suffix]
    return Asset(body, content_type, hashlib.sha256(body).hexdigest()[:32])


def _preloads(names: list[str]) -> bytes:
    modules = [name for name in names if name.endswith(".js")]
    lines = [f'<link rel="modulepreload" href="{PREFIX}{name}">' for name in modules]
    return "\n".join(lines).encode()
