"""Replacing a file in one step: also after a power cut there is the old one or the new one, whole.

It must never know what is in the files.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


def replace_file(path: Path, content: bytes, *, mode: int, keeps_owner: bool = False) -> None:
    """Put a file there, and the directories above it; it gets `mode` less what the umask takes.

    `keeps_owner`: a file that is there already keeps its owner, its group and its mode instead,
    which only its owner and root can see to.

    Raises:
        OSError: it cannot be written; the old file is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    try:
        fresh.unlink(missing_ok=True)  # of a process that was killed, perhaps with another mode
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            if keeps_owner and path.exists():
                before = path.stat()
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
            file.write(content)
        move_into_place(fresh, path)
    except OSError as error:
        error.filename, error.filename2 = str(path), None  # a full disk names none, others `fresh`
        raise
    finally:
        fresh.unlink(missing_ok=True)


def move_into_place(finished: Path, path: Path) -> None:
    """Move a finished file of the same file system to `path`, with all bytes on the disk first."""
    flush(finished)
    finished.replace(path)
    flush(path.parent)


def flush(path: Path) -> None:
    """Wait until the file, or the entries of the directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
