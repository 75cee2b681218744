"""A page that a program serves: its files as they lie in a package, and headers that bind it.

A page holds no secret, so it needs no key; what it asks for does. Text from elsewhere is never more
than text there, and a browser is told to hold the page to that. This module must never know what a
page shows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePath

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # No script may turn text into HTML, its own neither.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
BINDING_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# Of the page, a browser asks each time whether its copy is the newest: 304 and no bytes, if it is.
_EACH_TIME = "no-cache"
_NEVER_AGAIN = "public, max-age=31536000, immutable"
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
    is_for_good: bool  # whether its path will never have other bytes


def read_page(package: str, page_path: str, parts_path: str) -> Mapping[str, Asset]:
    """The page in the folder `page` of a package and all its parts, by their path at the port.

    Paths of the parts hold a digest of all of them: a browser that has them need not ask.
    """
    bodies = dict(_bodies(files(package).joinpath(_FOLDER)))
    prefix = f"{parts_path}{_digest(b''.join(bodies[name] for name in sorted(bodies)))}/"
    page = bodies.pop(_PAGE).replace(_MODULES, _preloads(parts_path, sorted(bodies)))
    page = page.replace(f'"{parts_path}'.encode(), f'"{prefix}'.encode())
    parts = {prefix + name: _asset(name, body) for name, body in bodies.items()}
    return {page_path: _asset(_PAGE, page), **parts}


def add_page(router: web.UrlDispatcher, assets: Mapping[str, Asset]) -> None:
    """Serve a page and its parts."""
    for path, asset in assets.items():
        router.add_get(path, _handler(asset))


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


def _preloads(parts_path: str, names: list[str]) -> bytes:
    modules = [name for name in names if name.endswith(".js")]
    lines = [f'<link rel="modulepreload" href="{parts_path}{name}">' for name in modules]
    return "\n".join(lines).encode()


def _handler(asset: Asset) -> Handler:
    async def serve(request: web.Request) -> web.StreamResponse:
        known = request.if_none_match or ()
        is_known = any(tag.value in (asset.etag, "*") for tag in known)
        if is_known:
            response = web.Response(status=304, headers=BINDING_HEADERS)
        else:
            response = web.Response(
                body=asset.body,
                content_type=asset.content_type,
                charset="utf-8",
                headers=BINDING_HEADERS,
            )
        response.headers[hdrs.ETAG] = f'"{asset.etag}"'
        response.headers[hdrs.CACHE_CONTROL] = _NEVER_AGAIN if asset.is_for_good else _EACH_TIME
        return response

    return serve
