"""Drafts that the verifier assigns to this board: fetched into a place of their own, within bounds.

Each file has a folder by its checksum, so that none ever takes another's place, and none is mixed
with the models that the operator pulled. Agents with one cache wait for each other. This module
must never hand out a file whose bytes were not checked.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from edge_agent.link.draft_fetch import fetch_draft
from edge_agent.models.arrival import arriving_path, finish
from edge_agent.models.cache import check_free_space, recorded_sha256, sha256_of
from edge_agent.models.from_verifier import OfferingVerifier
from shared.config.model_files import cached_path
from shared.errors import ModelError
from shared.protocol.handed_drafts.draft_offers import DraftOffer

logger = logging.getLogger(__name__)

FOLDER = "assigned"  # in the cache of models
# Another agent that fetches the same file is asked so often whether it is done.
_WAIT_SECONDS = 0.5


async def get_assigned(
    verifier: OfferingVerifier, offer: DraftOffer, cache_dir: Path, room_bytes: int
) -> Path:
    """The checked file of a draft; what came before a cut is gone on with.

    `room_bytes`: what all assigned drafts may take; those that were used longest ago make room.

    Raises:
        LinkLost: the verifier fell silent; the next call goes on.
        AuthRejected: the verifier does not know the token.
        ModelError: the bytes are wrong, or there is no room for them.
    """
    if offer.num_bytes > room_bytes:
        raise ModelError(
            f"{offer.name} has {offer.num_bytes / 1e6:.1f} MB, more than draft.assigned_megabytes "
            f"= {room_bytes / 1e6:g}"
        )
    directory = cache_dir / FOLDER / offer.sha256
    path = cached_path(directory, offer.name)
    try:
        async with _alone(directory):
            if not await asyncio.to_thread(_is_whole, path, offer.sha256):
                _make_room(directory, room_bytes - offer.num_bytes)
                await _fetch(verifier, offer, directory)
            os.utime(path)  # used just now
    except OSError as error:  # a full disk, a directory of another user
        raise ModelError(f"cannot keep {offer.name} in {directory}: {error.strerror}") from error
    return path


async def _fetch(verifier: OfferingVerifier, offer: DraftOffer, directory: Path) -> None:
    arriving = arriving_path(directory, offer.sha256)
    have = arriving.stat().st_size if arriving.exists() else 0
    check_free_space(directory, max(0, offer.num_bytes - have))
    logger.info("fetching the draft %s, %.1f MB", offer.name, offer.num_bytes / 1e6)
    to = (verifier.url, verifier.token, offer, arriving, lambda num_bytes: None)
    await fetch_draft(*to, verifier.tls)
    made = (arriving, directory, offer.name, offer.sha256, _Silent())
    await asyncio.to_thread(finish, *made)


def _is_whole(path: Path, sha256: str) -> bool:
    is_there = path.is_file() and recorded_sha256(path) == sha256
    return is_there and sha256_of(path) == sha256


def _make_room(keep: Path, room_bytes: int) -> None:
    """Delete the folders that were used longest ago until the rest has so many bytes at most."""
    others = [path for path in keep.parent.iterdir() if path.is_dir() and path != keep]
    others.sort(key=_used_at, reverse=True)
    for directory in others:
        room_bytes -= sum(file.stat().st_size for file in directory.iterdir())
        if room_bytes < 0:
            # One that runs with it has it in memory; its next start fetches it again.
            shutil.rmtree(directory, ignore_errors=True)


def _used_at(directory: Path) -> float:
    return max((file.stat().st_mtime for file in directory.glob("*.gguf")), default=0.0)


@asynccontextmanager
async def _alone(directory: Path) -> AsyncIterator[None]:
    """Hold a folder alone; the event loop goes on meanwhile."""
    lock = _open_lock(directory)
    try:
        while not _takes(lock):  # noqa: ASYNC110 - it is another process that lets it go
            await asyncio.sleep(_WAIT_SECONDS)
        yield
    finally:
        os.close(lock)


def _open_lock(directory: Path) -> int:
    directory.mkdir(parents=True, exist_ok=True)
    return os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _takes(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class _Silent:
    """Implements `PullProgress` for a program without a terminal."""

    def begin_stage(self, title: str, total: int | None = None) -> None:
        """The log says what matters."""

    def update(self, num_done: int) -> None:
        """Likewise."""
