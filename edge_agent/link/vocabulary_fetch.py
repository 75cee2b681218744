"""Getting the vocabulary of a board without a model: from the verifier, kept in a file.

It must never hand out a vocabulary that the verifier did not confirm, unless that is away; the
fingerprint in Hello tells whether it is still the right one.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import ssl
from pathlib import Path

import aiohttp

from edge_agent.link.backoff import Backoff
from edge_agent.link.unreachable import unreachable
from shared.daemon.files import replace_file
from shared.daemon.peer_text import one_line
from shared.errors import AuthRejected, LinkLost, ModelError, RemoteProtocolError, VerifierLoading
from shared.protocol.transport import LOADING_HEADER, VOCABULARY_PATH, http_address
from shared.protocol.vocabulary import (
    MAX_VOCABULARY_BYTES,
    unpack_vocabulary,
    vocabulary_tag,
)

logger = logging.getLogger(__name__)

# Some megabytes over a slow link.
FETCH_TIMEOUT_SECONDS = 120.0


async def get_vocabulary(
    url: str, token: str, cache_dir: Path, tls: ssl.SSLContext | None = None
) -> tuple[bytes, ...]:
    """The bytes of every id of the verifier at `url` (ws:// or wss://); waits until there is one.

    `tls`: whom to trust; None: those whom the system trusts.

    Raises:
        AuthRejected: the verifier does not know the token.
        ModelError: the verifier hands out no vocabulary.
        RemoteProtocolError: what it hands out is none.
    """
    path = _cache_path(url, cache_dir)
    known = _cached(path)
    backoff = Backoff()
    is_told = False
    while True:
        try:
            packed = await fetch_vocabulary(url, token, known, tls)
        except LinkLost as error:
            if known:
                logger.warning("%s; using the vocabulary of the last time", one_line(error))
                return unpack_vocabulary(known)
            delay = backoff.delay_seconds(
                random.random(),
                error.retry_after_seconds,
                is_loading=isinstance(error, VerifierLoading),
            )
            level = logging.DEBUG if is_told else logging.WARNING
            sentence = one_line(error)
            logger.log(level, "no vocabulary yet: %s; trying again in %.1f s", sentence, delay)
            is_told = True
            await asyncio.sleep(delay)
            continue
        vocabulary = unpack_vocabulary(packed)
        if packed != known:
            await asyncio.to_thread(_keep, path, packed)
        return vocabulary


async def fetch_vocabulary(
    url: str, token: str, known: bytes, tls: ssl.SSLContext | None = None
) -> bytes:
    """The packed vocabulary; `known` itself if it is still the right one.

    Raises:
        LinkLost: the verifier cannot be reached.
        AuthRejected, ModelError, RemoteProtocolError: see `get_vocabulary`.
    """
    address = http_address(url, VOCABULARY_PATH)
    headers = {"Authorization": f"Bearer {token}"}
    if known:
        headers["If-None-Match"] = f'"{vocabulary_tag(known)}"'
    timeout = aiohttp.ClientTimeout(total=FETCH_TIMEOUT_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(
                address,
                headers=headers,
                allow_redirects=False,
                ssl=True if tls is None else tls,
            ) as answer,
        ):
            return await _body(answer, url, known)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise await unreachable(error, url, FETCH_TIMEOUT_SECONDS, tls) from error


async def _body(answer: aiohttp.ClientResponse, url: str, known: bytes) -> bytes:
    match answer.status:
        case 304 if known:
            return known
        case 401 | 403:
            raise AuthRejected("the verifier does not accept this device's token")
        case 404:
            raise ModelError(f"the verifier at {url} hands out no vocabulary: set draft.model")
        case 200:
            packed = bytearray()
            async for chunk in answer.content.iter_any():
                packed += chunk
                if len(packed) > MAX_VOCABULARY_BYTES:
                    raise RemoteProtocolError(f"vocabulary exceeds {MAX_VOCABULARY_BYTES} bytes")
            return bytes(packed)
        case 503 if LOADING_HEADER in answer.headers:
            raise VerifierLoading(answer.headers[LOADING_HEADER])
        case status:
            raise LinkLost(f"the verifier answered {status}")


def _cache_path(url: str, cache_dir: Path) -> Path:
    name = hashlib.blake2b(url.encode(), digest_size=8).hexdigest()
    return cache_dir / f"{name}.vocabulary"


def _cached(path: Path) -> bytes:
    """What was kept, or nothing where that is missing or damaged."""
    try:
        packed = path.read_bytes()
        unpack_vocabulary(packed)
    except (OSError, RemoteProtocolError):
        return b""
    return packed


def _keep(path: Path, packed: bytes) -> None:
    """For the next start; a board that cannot write goes without."""
    try:
        replace_file(path, packed, mode=0o644)
    except OSError as error:
        logger.warning("the vocabulary cannot be kept in %s: %s", path, error.strerror)
