"""Files on their way into the cache: parts that survive a power cut, and what makes them models.

A file under way is `.arriving-SHA256` in the cache; only whole ones with the right checksum become
`NAME.gguf`. This module must never know where bytes come from.
"""

from __future__ import annotations

import time
from pathlib import Path

from edge_agent.models.cache import install, sha256_of
from edge_agent.models.progress import PullProgress
from shared.config.model_files import cached_path
from shared.errors import ModelError

_PREFIX = ".arriving-"
_KEPT_SECONDS = 7 * 24 * 3600.0  # parts of a download that was not gone on with


def arriving_path(cache_dir: Path, sha256: str) -> Path:
    """Where the bytes of a file with that checksum are gathered."""
    return cache_dir / f"{_PREFIX}{sha256}"


def finish(arrived: Path, cache_dir: Path, name: str, sha256: str, progress: PullProgress) -> Path:
    """Make a whole file the model `name`; a wrong one is deleted, and what was there stays.

    Raises:
        ModelError: it is not what its checksum says, or no GGUF file.
    """
    progress.begin_stage("verifying sha256", arrived.stat().st_size)
    found = sha256_of(arrived, progress.update)
    with arrived.open("rb") as file:
        is_gguf = file.read(4) == b"GGUF"
    if found != sha256 or not is_gguf:
        arrived.unlink()
        if found != sha256:
            raise ModelError(f"{name} has the sha256 {found} instead of {sha256}: pull it again")
        raise ModelError(f"{name} is not a GGUF file")
    path = cached_path(cache_dir, name)
    install(arrived, path, sha256)
    return path


def forget_old_parts(cache_dir: Path, now: float | None = None) -> None:
    """Delete parts of files that have not grown for a week."""
    now = time.time() if now is None else now
    for part in cache_dir.glob(f"{_PREFIX}*"):
        if now - part.stat().st_mtime > _KEPT_SECONDS:
            part.unlink(missing_ok=True)
