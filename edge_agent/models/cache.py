"""The directory with the models of this user: whole, checked files appear in it, or nothing does.

Every model `NAME.gguf` has a `NAME.gguf.sha256` beside it, in the format of sha256sum.
It must never know where models come from.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.daemon.files import flush, move_into_place
from shared.errors import ModelError

_WORK_PREFIX = ".pull-"
_CHUNK_BYTES = 1 << 20


def sha256_of(path: Path, on_bytes: Callable[[int], None] = lambda _num_bytes: None) -> str:
    """The hex digest of a file, calling `on_bytes(bytes so far)` on the way."""
    digest = hashlib.sha256()
    num_bytes = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            num_bytes += len(chunk)
            on_bytes(num_bytes)
    return digest.hexdigest()


def recorded_sha256(path: Path) -> str | None:
    """The digest in the file beside the model, None where there is none."""
    try:
        words = _checksum_path(path).read_text(encoding="utf-8").split()
    except FileNotFoundError:
        return None
    return words[0] if words else None


def install(finished: Path, path: Path, sha256: str) -> None:
    """Move a finished file of the same file system to `path`, its checksum first.

    A process that sees the model sees its checksum, and a power cut leaves no half of either.
    """
    checksum = finished.with_suffix(".sha256")
    checksum.write_text(f"{sha256}  {path.name}\n", encoding="utf-8")
    flush(finished)  # which may take long, and nothing has changed yet
    move_into_place(checksum, _checksum_path(path))
    move_into_place(finished, path)


def remove(path: Path) -> None:
    """Delete a model, then its checksum: one without the other is never handed out."""
    path.unlink()
    _checksum_path(path).unlink(missing_ok=True)
    flush(path.parent)


def cached_models(cache_dir: Path) -> list[Path]:
    """All models that are there, known by name or not."""
    return sorted(cache_dir.glob("*.gguf"))


@contextmanager
def work_dir(cache_dir: Path, on_wait: Callable[[], None]) -> Iterator[Path]:
    """Hold the cache alone, with a directory for unfinished files that vanishes in every case.

    Calls `on_wait()` once when another process holds the cache, and waits for it.
    """
    cache_dir.mkdir(parents=True, exist_ok=True)
    lock = os.open(cache_dir / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(lock, fcntl.LOCK_EX)
        for left_behind in cache_dir.glob(f"{_WORK_PREFIX}*"):  # by a process that was killed
            shutil.rmtree(left_behind, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=_WORK_PREFIX, dir=cache_dir) as directory:
            yield Path(directory)
    finally:
        os.close(lock)


def check_free_space(directory: Path, needed_bytes: int) -> None:
    """Raise `ModelError` when the file system has less room than that."""
    free_bytes = shutil.disk_usage(directory).free
    if free_bytes < needed_bytes:
        raise ModelError(
            f"{directory} has {free_bytes / 1e6:.0f} MB left, {needed_bytes / 1e6:.0f} are needed"
        )


def _checksum_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
