"""The files of the web chat, as they lie in this package: bytes, type and version of each.

Pure but for reading these files. This module must never know a request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePath
from typing import Final

import msgspec

PAGE_PATH: Final = "/"
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
_UNVERSIONED = b'"/web/'


class Asset(msgspec.Struct, frozen=True):
    """One file as a browser gets it."""

    body: bytes
    content_type: str
    etag: str  # of these bytes
    is_for_good: bool  # whether its path will never have other bytes


@cache
def read_assets() -> Mapping[str, Asset]:
    """All of them by their path on the board; read once.

    Paths of the page's parts hold a digest of all of them: a browser that has them need not ask.
    """
    bodies = dict(_bodies(files("edge_agent.web").joinpath(_FOLDER)))
    prefix = f"/web/{_digest(b''.join(bodies[name] for name in sorted(bodies)))}/"
    page = bodies.pop(_PAGE).replace(_MODULES, _preloads(sorted(bodies)))
    page = page.replace(_UNVERSIONED, f'"{prefix}'.encode())
    parts = {prefix + name: _asset(name, body) for name, body in bodies.items()}
    return {PAGE_PATH: _asset(_PAGE, page), **parts}


def _bodies(folder: Traversable, above: str = "") -> Iterator[tuple[str, bytes]]:
    """The files of a folder and of those in it, by their path."""
    for entry in folder.iterdir():
        name = above + entry.name
        if entry.is_dir():
            yield from _bodies(entry, f"{name}/")
        elif PurePath(name).suffix in _CONTENT_TYPES:
            yield name, entry.read_bytes()


def _asset(name: str, body: bytes) -> Asset:
    content_type = _CONTENT_TYPES[PurePath(name).suffix]
    return Asset(body, content_type, _digest(body), is_for_good=name != _PAGE)


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:16]


def _preloads(names: list[str]) -> bytes:
    modules = [name for name in names if name.endswith(".js")]
    lines = [f'<link rel="modulepreload" href="/web/{name}">' for name in modules]
    return "\n".join(lines).encode()
