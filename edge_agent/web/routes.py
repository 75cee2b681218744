"""The web chat over HTTP: its page at `/`, its parts under `/web/`, with headers that bind it.

The page holds no secret, so it needs no key; what it asks for does. A model's text is never more
than text there, and a browser is told to hold the page to that.
"""

from __future__ import annotations

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from edge_agent.web.assets import Asset, read_assets

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
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# Of the page, a browser asks each time whether its copy is the newest: 304 and no bytes, if it is.
_EACH_TIME = "no-cache"
_NEVER_AGAIN = "public, max-age=31536000, immutable"


def add_page(router: web.UrlDispatcher) -> None:
    """Serve the page and its parts."""
    for path, asset in read_assets().items():
        router.add_get(path, _handler(asset))


def _handler(asset: Asset) -> Handler:
    async def serve(request: web.Request) -> web.StreamResponse:
        known = request.if_none_match or ()
        is_known = any(tag.value in (asset.etag, "*") for tag in known)
        if is_known:
            response = web.Response(status=304, headers=_HEADERS)
        else:
            response = web.Response(
                body=asset.body,
                content_type=asset.content_type,
                charset="utf-8",
                headers=_HEADERS,
            )
        response.headers[hdrs.ETAG] = f'"{asset.etag}"'
        response.headers[hdrs.CACHE_CONTROL] = _NEVER_AGAIN if asset.is_for_good else _EACH_TIME
        return response

    return serve
