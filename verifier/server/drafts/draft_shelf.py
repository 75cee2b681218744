"""Draft models of the registry and in a folder: which fit the target, and their bytes for boards.

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

from shared.errors import ConfigError, ModelError
from shared.protocol.handed_drafts.draft_offers import MAX_OFFERS, OFFER_NAME, DraftOffer
from verifier.drafts.draft_store import DraftStore
from verifier.drafts.kept_draft import KeptDraft

logger = logging.getLogger(__name__)

_PIECE_BYTES = 64 * 1024
_HASH_BYTES = 1 << 20
# A board that takes none of a piece for so long is gone; pulling again goes on where it ended.
_PIECE_SECONDS = 60.0

CheckFit = Callable[[Path], None]  # raises ModelError where a draft does not fit the target
_Version = tuple[int, int, int]  # of a file: inode, bytes, time of its last change in ns
_MISSING: _Version = (0, 0, 0)  # of a file that cannot be read


class Offered(msgspec.Struct, frozen=True):
    """A draft that boards may have."""

    offer: DraftOffer
    kept: KeptDraft | None  # what the registry knows of it; None: it is from the folder


class _Shelved(msgspec.Struct, frozen=True):
    """One file as it was looked at."""

    path: Path
    version: _Version
    offered: Offered | None  # None: it does not fit


class DraftShelf:
    """The registry and the folder `drafts.directory`; looked at again whenever a board asks.

    Of two drafts with one name that of the registry counts.
    """

    def __init__(
        self,
        check_fit: CheckFit,
        *,
        bytes_per_second: float,
        directory: Path | None = None,
        store: DraftStore | None = None,
    ) -> None:
        self._directory = directory
        self._store = store
        self._check_fit = check_fit
        self._pace = _Pace(bytes_per_second)
        self._shelved: dict[str, _Shelved] = {}
        self._looking = asyncio.Lock()

    async def offered(self) -> dict[str, Offered]:
        """What fits, by name; a new file is read whole, for its checksum, in a thread."""
        async with self._looking:
            self._shelved = await asyncio.to_thread(self._look)
        found = {name: item.offered for name, item in self._shelved.items()}
        return {name: offered for name, offered in found.items() if offered is not None}

    async def send(self, request: web.Request, name: str) -> web.StreamResponse:
        """The file of an offer, or the part of it that `Range` asks for.

        Raises:
            HTTPException: there is no such offer, or the part is outside of it.
        """
        await self.offered()
        item = self._shelved.get(name)
        if item is None or item.offered is None:
            raise web.HTTPNotFound(text=f"there is no draft {name!r} here\n")
        file = await asyncio.to_thread(item.path.open, "rb")
        try:
            if _version(os.fstat(file.fileno())) != item.version:
                raise web.HTTPServiceUnavailable(text=f"{name} is being replaced\n")
            return await self._send(request, file, item.offered.offer)
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
        files: dict[str, tuple[Path, KeptDraft | None]] = {}
        if self._directory is not None:
            files |= {path.stem: (path, None) for path in self._folder(self._directory)}
        if self._store is not None:
            try:
                kept = self._store.catalogue().by_name
            except ConfigError as error:
                logger.warning("no draft of the registry is offered: %s", error.problems[0])
                kept = {}
            files |= {name: (self._store.path_of(draft), draft) for name, draft in kept.items()}
        chosen = dict(sorted(files.items())[:MAX_OFFERS])
        return {name: self._looked_at(name, *file) for name, file in chosen.items()}

    def _folder(self, directory: Path) -> list[Path]:
        try:
            return [path for path in sorted(directory.glob("*.gguf")) if _has_name(path)]
        except OSError as error:
            logger.warning("drafts.directory %s: %s", directory, error.strerror)
            return []

    def _looked_at(self, name: str, path: Path, kept: KeptDraft | None) -> _Shelved:
        before = self._shelved.get(name)
        try:
            version = _version(path.stat())
            if before is not None and (before.path, before.version) == (path, version):
                if before.offered is None or before.offered.kept == kept:
                    return before
                return _Shelved(path, version, _offered(before.offered.offer, kept))
            self._check_fit(path)
            offer = DraftOffer(name, version[1], _sha256(path))
            if kept is not None and kept.sha256 != offer.sha256:
                raise ModelError(f"it is damaged: its sha256 is {offer.sha256}")
        except OSError as error:
            if before is None or before.version != _MISSING:
                logger.warning("%s is not offered to boards: %s", name, error)
            return _Shelved(path, _MISSING, None)
        except ModelError as error:
            shown = path if kept is None else f"the registry's {name}"
            logger.warning("%s is not offered to boards: %s", shown, error)
            return _Shelved(path, version, None)
        return _Shelved(path, version, _offered(offer, kept))


def _offered(offer: DraftOffer, kept: KeptDraft | None) -> Offered:
    if kept is None:
        return Offered(offer, None)
    told = {"licence": kept.licence, "labels": kept.labels}
    return Offered(msgspec.structs.replace(offer, **told), kept)


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
