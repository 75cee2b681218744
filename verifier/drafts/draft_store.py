"""The directory of the registry: drafts by their checksums, and the catalogue that names them.

Whatever interrupts it, a name stands for one whole file: bytes come first, then the catalogue, and
what it does not name is deleted last. This module must never know what a GGUF file is; who adds one
checks it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.daemon.files import flush, move_into_place, replace_file
from shared.errors import ConfigError, ModelError, RequestRefused
from verifier.drafts.kept_draft import (
    FILE_NAME,
    Catalogue,
    KeptDraft,
    pack_catalogue,
    read_catalogue,
)

FOLDER = "drafts"  # in the directory of state
MAX_DRAFTS = 200
_ARRIVING = ".arriving"
_CHUNK_BYTES = 1 << 20

Describe = Callable[[Path, str, int], KeptDraft]
"""What is in a file with this checksum and size; raises ModelError where it is no draft."""


class DraftStore:
    """Of one verifier; programs that change it wait for each other."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def catalogue_path(self) -> Path:
        """The file that changes with whatever changes here."""
        return self.directory / FILE_NAME

    def catalogue(self) -> Catalogue:
        """What there is; raises as `read_catalogue`."""
        return read_catalogue(self.catalogue_path)

    def path_of(self, draft: KeptDraft) -> Path:
        """Where its bytes are."""
        return self.directory / f"{draft.sha256}.gguf"

    def add(
        self, name: str, source: Path, describe: Describe, *, replaces: bool = False
    ) -> KeptDraft:
        """Copy a file into the registry, looked at as it was copied.

        Raises:
            RequestRefused: the name is taken, or there are too many.
            ModelError: it is no draft, cannot be read, or there is no room for it.
        """
        with self._alone():
            catalogue = self.catalogue()
            if name in catalogue.by_name and not replaces:
                raise RequestRefused(f"there is a draft {name} already: --replace replaces it")
            if len(catalogue.by_name) >= MAX_DRAFTS and name not in catalogue.by_name:
                raise RequestRefused(f"the registry holds {MAX_DRAFTS} drafts already")
            arriving = self.directory / _ARRIVING
            try:
                draft = describe(arriving, *self._copy(source, arriving))
                move_into_place(arriving, self.path_of(draft))
            except OSError as error:
                raise ModelError(f"cannot add {source}: {error.strerror}") from error
            finally:
                arriving.unlink(missing_ok=True)
            self._write(catalogue.with_draft(name, draft))
            return draft

    def change(self, name: str, change: Callable[[KeptDraft], KeptDraft]) -> None:
        """Keep something else about a draft.

        Raises:
            RequestRefused: there is none of that name.
        """
        with self._alone():
            catalogue = self.catalogue()
            self._write(catalogue.with_draft(name, change(known_draft(catalogue, name))))

    def remove(self, name: str) -> None:
        """Forget a draft and delete its bytes.

        Raises:
            RequestRefused: there is none of that name.
        """
        with self._alone():
            catalogue = self.catalogue()
            known_draft(catalogue, name)
            self._write(catalogue.without(name))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError((f"{self.directory}: {error.strerror}",)) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _copy(self, source: Path, to: Path) -> tuple[str, int]:
        """Checksum and size of what was copied."""
        digest, num_bytes = hashlib.sha256(), 0
        with source.open("rb") as read:
            needed = os.fstat(read.fileno()).st_size
            free = shutil.disk_usage(self.directory).free
            if free < needed:
                raise ModelError(
                    f"{self.directory} has {free / 1e6:.0f} MB left, {needed / 1e6:.0f} are needed"
                )
            with to.open("wb") as written:
                while piece := read.read(_CHUNK_BYTES):
                    digest.update(piece)
                    num_bytes += written.write(piece)
        return digest.hexdigest(), num_bytes

    def _write(self, catalogue: Catalogue) -> None:
        replace_file(self.catalogue_path, pack_catalogue(catalogue), mode=0o644, keeps_owner=True)
        named = {f"{draft.sha256}.gguf" for draft in catalogue.by_name.values()}
        for path in self.directory.glob("*.gguf"):
            if path.name not in named:
                path.unlink()
        flush(self.directory)


def known_draft(catalogue: Catalogue, name: str) -> KeptDraft:
    """The draft of that name.

    Raises:
        RequestRefused: there is none.
    """
    draft = catalogue.by_name.get(name)
    if draft is None:
        known = ", ".join(sorted(catalogue.by_name)) or "none at all"
        raise RequestRefused(f"the registry has no draft {name}; it has {known}")
    return draft
