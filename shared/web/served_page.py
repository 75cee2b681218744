"""A page that a program serves: one file made of those in a package, and headers that bind it.

Script, style and icon stand in the page itself, for each request costs a browser more than their
bytes (20 to 50 ms in Chromium on two cores, 2026-11-26); the policy names their digests, and
nothing else runs. A page holds no secret, so it needs no key; what it asks for does. Text from
elsewhere is never more than text there. This module must never know what a page shows.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from shared.web.with_imports import script_with_imports, style_with_imports

BINDING_HEADERS = {
    "Content-Security-Policy": "default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# A browser asks each time whether its copy is the newest: 304 and no bytes, if it is.
_EACH_TIME = "no-cache"
_SHARED_FOLDER = "shared/web/page"
_SCRIPT = re.compile(r'<script type="module" src="([\w.]+)"></script>')
_STYLE = re.compile(r'<link rel="stylesheet" href="([\w.]+)">')
_DRAWING = re.compile(r'"([\w.]+\.svg)"')
_ENDS_A_SCRIPT = re.compile(r"</script|<!--", re.IGNORECASE)
_ENDS_A_STYLE = re.compile(r"</style", re.IGNORECASE)


class Asset(msgspec.Struct, frozen=True):
    """One file as a browser gets it."""

    body: bytes
    etag: str  # of these bytes
    policy: str  # what it may do


def read_page(package: str) -> Asset:
    """The page in the folder `page` of a package, with all that it names.

    Raises:
        ValueError: it names no script or no style, or one of them would end its own element.
    """
    folder = f"{package.replace('.', '/')}/page"
    page = _read(f"{folder}/page.html")
    script_name, style_name = _SCRIPT.search(page), _STYLE.search(page)
    if script_name is None or style_name is None:
        raise ValueError(f"{folder}/page.html names no script or no style sheet")
    script = "\n" + script_with_imports(f"{folder}/{script_name[1]}", _read)
    style = "\n" + style_with_imports(f"{folder}/{style_name[1]}", _read)
    if _ENDS_A_SCRIPT.search(script) or _ENDS_A_STYLE.search(style):
        raise ValueError(f"what {folder}/page.html names would end its own element")
    page = page.replace(script_name[0], f'<script type="module">{script}</script>')
    page = page.replace(style_name[0], f"<style>{style}</style>")
    page = _DRAWING.sub(lambda match: f'"{_drawing(match[1])}"', page)
    body = page.encode()
    return Asset(body, hashlib.sha256(body).hexdigest()[:16], _policy(script, style))


def add_page(router: web.UrlDispatcher, assets: Mapping[str, Asset]) -> None:
    """Serve pages by their path."""
    for path, asset in assets.items():
        router.add_get(path, _handler(asset))


def _place(path: str) -> Traversable:
    """A path that begins with a package, wherever that is installed."""
    package, _, rest = path.partition("/")
    return files(package).joinpath(rest)


def _read(path: str) -> str:
    return _place(path).read_text("utf-8")


def _drawing(name: str) -> str:
    encoded = b64encode(_read(f"{_SHARED_FOLDER}/{name}").encode()).decode()
    return f"data:image/svg+xml;base64,{encoded}"


def _policy(script: str, style: str) -> str:
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_source(script)}",
            f"style-src {_source(style)}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            # No script may turn text into HTML, its own neither.
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _source(text: str) -> str:
    """How a policy names exactly this text."""
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _handler(asset: Asset) -> Handler:
    headers = {
        **BINDING_HEADERS,
        "Content-Security-Policy": asset.policy,
        hdrs.ETAG: f'"{asset.etag}"',
        hdrs.CACHE_CONTROL: _EACH_TIME,
    }

    async def serve(request: web.Request) -> web.StreamResponse:
        known = request.if_none_match or ()
        if any(tag.value in (asset.etag, "*") for tag in known):
            return web.Response(status=304, headers=headers)
        return web.Response(
            body=asset.body, content_type="text/html", charset="utf-8", headers=headers
        )

    return serve
