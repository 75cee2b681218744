"""Draft models in a folder, for boards that reach no hub: which fit the target, and their bytes.

Files are sent in small pieces, all together no faster than the settings say, so that rounds are not
disturbed. This module must never hand out a file that it did not offer.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import msgspec
from aiohttp import web

from shared.errors import ModelError
from shared.protocol.draft_offers import MAX_OFFERS, OFFER_NAME, DraftOffer

logger = logging.getLogger(__name__)

_PIECE_BYTES = 64 * 1024
_HASH_BYTES = 1 << 20
# A board that takes none of a piece for so long is gone; pulling again goes on where it ended.
_PIECE_SECONDS = 60.0

CheckFit = Callable[[Path], None]  # raises ModelError where a draft does not fit the target
_Version = tuple[int, int, int]  # of a file: inode, bytes, time of its last change in ns


class _Shelved(msgspec.Struct, frozen=True):
    """One file as it was looked at."""

    path: Path
    version: _Version
    offer: DraftOffer | None  # None: it does not fit


class DraftShelf:
    """The folder `drafts.directory`; looked at again whenever a board asks."""

    def __init__(self, directory: Path, check_fit: CheckFit, *, bytes_per_second: float) -> None:
        self._directory = directory
        self._check_fit = check_fit
        self._pace = _Pace(bytes_per_second)
        self._shelved: dict[str, _Shelved] = {}
        self._looking = asyncio.Lock()

    async def offers(self) -> tuple[DraftOffer, ...]:
        """What fits; a new file is read whole, for its checksum, in a thread."""
        async with self._looking:
            self._shelved = await asyncio.to_thread(self._look)
        return tuple(item.offer for item in self._shelved.values() if item.offer is not None)

    async def send(self, request: web.Request, name: str) -> web.StreamResponse:
        """The file of an offer, or the part of it that `Range` asks for.

        Raises:
            HTTPException: there is no such offer, or the part is outside of it.
        """
        await self.offers()
        item = self._shelved.get(name)
        if item is None or item.offer is None:
            raise web.HTTPNotFound(text=f"there is no draft {name!r} here\n")
        file = await asyncio.to_thread(item.path.open, "rb")
        try:
            if _version(os.fstat(file.fileno())) != item.version:
                raise web.HTTPServiceUnavailable(text=f"{name} is being replaced\n")
            return await self._send(request, file, item.offer)
        finally:
            file.close()

    async def _send(
        self, request: web.Request, file: BinaryIO, offer: DraftOffer
    ) -> web.StreamResponse:
        start = _wanted_start(request, offer)
        answer = web.StreamResponse(status=206 if start else 200)
        answer.content_type = "application/octet-stream"
        answer.content_length = offer.num_bytes - start
        answer.headers["Accept-Ranges"] = "bytes"
        answer.etag = offer.sha256
        if start:
            span = f"bytes {start}-{offer.num_bytes - 1}/{offer.num_bytes}"
            answer.headers["Content-Range"] = span
        await answer.prepare(request)
        file.seek(start)
        left = offer.num_bytes - start
        while left:
            await self._pace.wait(_PIECE_BYTES)
            piece = await asyncio.to_thread(file.read, min(_PIECE_BYTES, left))
            if not piece:  # cut meanwhile: the board sees that its bytes are too few
                break
            async with asyncio.timeout(_PIECE_SECONDS):
                await answer.write(piece)
            left -= len(piece)
        return answer

    def _look(self) -> dict[str, _Shelved]:
        """In a thread."""
        try:
            paths = sorted(self._directory.glob("*.gguf"))[:MAX_OFFERS]
        except OSError as error:
            logger.warning("drafts.directory %s: %s", self._directory, error.strerror)
            return {}
        return {path.stem: self._looked_at(path) for path in paths if _has_name(path)}

    def _looked_at(self, path: Path) -> _Shelved:
        try:
            version = _version(path.stat())
            before = self._shelved.get(path.stem)
            if before is not None and before.version == version:
                return before
            self._check_fit(path)
            offer = DraftOffer(path.stem, version[1], _sha256(path))
        except (ModelError, OSError) as error:
            logger.warning("%s is not offered to boards: %s", path, error)
            return _Shelved(path, version, None)
        return _Shelved(path, version, offer)


class _Pace:
    """Lets so many bytes pass in a second, over all who wait."""

    def __init__(self, bytes_per_second: float) -> None:
        self._bytes_per_second = bytes_per_second
        self._free_at = 0.0

    async def wait(self, num_bytes: int) -> None:
        now = asyncio.get_running_loop().time()
        start = max(now, self._free_at)
        self._free_at = start + num_bytes / self._bytes_per_second
        await asyncio.sleep(start - now)


def _wanted_start(request: web.Request, offer: DraftOffer) -> int:
    """The first byte that is wanted: only `Range: bytes=N-` is known, for going on.

    Of another version than `If-Range` names all bytes are wanted.
    """
    match = re.fullmatch(r"bytes=(\d{1,15})-", request.headers.get("Range", ""))
    if match is None or request.headers.get("If-Range", f'"{offer.sha256}"') != f'"{offer.sha256}"':
        return 0
    start = int(match[1])
    if start >= offer.num_bytes:
        raise web.HTTPRequestRangeNotSatisfiable(
            headers={"Content-Range": f"bytes */{offer.num_bytes}"}
        )
    return start


def _has_name(path: Path) -> bool:
    return re.fullmatch(OFFER_NAME, path.stem) is not None


def _version(status: os.stat_result) -> _Version:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_HASH_BYTES):
            digest.update(piece)
    return digest.hexdigest()
