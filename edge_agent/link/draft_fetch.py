"""Drafts that the verifier offers: their list, and one of them, whole in the end or gone on with.

This module must never decide that a file is right: its caller checks the sha256.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from shared.errors import AuthRejected, LinkLost, ModelError, RemoteProtocolError, VerifierLoading
from shared.protocol.handed_drafts.draft_offers import (
    MAX_OFFERS_BYTES,
    OFFERS_PATH,
    DraftOffer,
    unpack_offers,
)
from shared.protocol.transport import LOADING_HEADER, http_address

_CONNECT_SECONDS = 10.0
# A verifier reads a file of a GB for its checksum before it answers for the first time.
_SILENCE_SECONDS = 60.0


async def list_offers(
    url: str, token: str, tls: ssl.SSLContext | None = None
) -> tuple[DraftOffer, ...]:
    """What the verifier at `url` (ws:// or wss://) offers; () if it offers nothing.

    Raises:
        LinkLost: it cannot be reached, or loads its target.
        AuthRejected: it does not know the token.
        RemoteProtocolError: its list is none.
    """
    async with _asked(url, OFFERS_PATH, {"Authorization": f"Bearer {token}"}, tls) as answer:
        if answer.status == 404:
            return ()
        _check(answer)
        packed = await answer.content.read(MAX_OFFERS_BYTES + 1)
        while len(packed) <= MAX_OFFERS_BYTES and (more := await answer.content.readany()):
            packed += more
    if len(packed) > MAX_OFFERS_BYTES:
        raise RemoteProtocolError(f"the list of drafts exceeds {MAX_OFFERS_BYTES} bytes")
    return unpack_offers(packed)


async def fetch_draft(
    url: str,
    token: str,
    offer: DraftOffer,
    partial: Path,
    on_bytes: Callable[[int], None],
    tls: ssl.SSLContext | None = None,
) -> None:
    """Add to `partial` what is missing of an offer; what has come stays there whatever happens.

    Calls `on_bytes(bytes so far)`.

    Raises:
        LinkLost: the verifier cannot be reached, or the bytes ended early.
        AuthRejected: it does not know the token.
        ModelError: it has no such draft any more, or sends more bytes than it said.
    """
    with partial.open("ab") as file:
        have = file.tell()
        if have == offer.num_bytes:
            return
        headers = {"Authorization": f"Bearer {token}"}
        if 0 < have < offer.num_bytes:
            headers |= {"Range": f"bytes={have}-", "If-Range": f'"{offer.sha256}"'}
        async with _asked(url, f"{OFFERS_PATH}/{offer.name}", headers, tls) as answer:
            if answer.status == 404:
                raise ModelError(f"the verifier at {url} offers {offer.name} no more")
            _check(answer)
            if answer.status != 206:
                have = file.truncate(0)
            async for piece in answer.content.iter_any():
                if have + len(piece) > offer.num_bytes:
                    raise ModelError(f"{offer.name} is longer than the verifier said")
                file.write(piece)
                have += len(piece)
                on_bytes(have)
    if have < offer.num_bytes:
        raise LinkLost(f"{offer.name} ended after {have} of {offer.num_bytes} bytes")


@asynccontextmanager
async def _asked(
    url: str, path: str, headers: dict[str, str], tls: ssl.SSLContext | None
) -> AsyncIterator[aiohttp.ClientResponse]:
    address = http_address(url, path)
    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS
    )
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session,
            session.get(
                address,
                headers=headers,
                allow_redirects=False,
                ssl=True if tls is None else tls,
            ) as answer,
        ):
            yield answer
    except TimeoutError:
        raise LinkLost(f"the verifier at {url} fell silent") from None
    except (aiohttp.ClientError, ConnectionError) as error:
        raise LinkLost(f"cannot reach the verifier at {url}: {error}") from error


def _check(answer: aiohttp.ClientResponse) -> None:
    match answer.status:
        case 200 | 206:
            return
        case 401 | 403:
            raise AuthRejected("the verifier does not accept this device's token")
        case 503 if LOADING_HEADER in answer.headers:
            raise VerifierLoading(answer.headers[LOADING_HEADER])
        case status:
            raise LinkLost(f"the verifier answered {status}")
