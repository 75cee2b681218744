"""The files that `init` writes, each whole or not at all, and the command that comes next.

A file that holds something else was written by the operator and stays. This module must never know
what is in the files.
"""

from __future__ import annotations

import grp
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from shared.daemon.files import replace_file
from shared.errors import ConfigError, GoodspeedError

# devices/systemd/sysusers.d makes it: the group that services run in.
SERVICE_GROUP = "goodspeed"
UNIT_DIRECTORIES = (Path("/etc/systemd/system"), Path("/usr/lib/systemd/system"))
_DIRECTORY_UMASK = 0o022
_SECRET_DIRECTORY_MODE = 0o750


class FirstFile(msgspec.Struct, frozen=True):
    """A file as it shall be."""

    path: Path
    content: str
    mode: int
    is_secret: bool = False  # its content is not shown, and its directory not open to all
    is_for_service: bool = False  # its group is that of the services, where that exists
    is_shown: bool = True  # in a dry run; never what is secret

    @property
    def group_id(self) -> int | None:
        """None: whichever it has."""
        if not self.is_for_service:
            return None
        try:
            return grp.getgrnam(SERVICE_GROUP).gr_gid
        except KeyError:
            return None

    @property
    def is_there(self) -> bool:
        """Whether nothing is to be done."""
        if not self.path.exists() or self.path.read_text(encoding="utf-8") != self.content:
            return False
        status = self.path.stat()
        return stat.S_IMODE(status.st_mode) == self.mode and (
            self.group_id in (None, status.st_gid)
        )


def check_replaceable(files: Sequence[FirstFile], *, replaces: bool) -> None:
    """Refuse to write over what differs.

    Raises:
        ConfigError: with every file that holds something else.
    """
    others = [
        file.path
        for file in files
        if file.path.exists() and file.path.read_text(encoding="utf-8") != file.content
    ]
    if others and not replaces:
        sentence = "holds something else; edit it, or give --replace to write it anew"
        raise ConfigError(tuple(f"{path}: {sentence}" for path in others))


def write_first_files(files: Sequence[FirstFile], *, is_dry_run: bool) -> Iterator[str]:
    """Write what is not there yet; a sentence for each file.

    Raises:
        GoodspeedError: this user may not write there.
    """
    for file in files:
        if file.is_there:
            yield f"{file.path} is there already"
        elif is_dry_run:
            yield f"would write {file.path} (mode {file.mode:o}){_shown(file)}"
        else:
            _write(file)
            yield f"wrote {file.path}"


def start_command(
    program: str, settings: Path, directories: tuple[Path, ...] = UNIT_DIRECTORIES
) -> str:
    """What a person types to start the program; now and with the machine, where it has the unit."""
    if any((directory / f"{program}.service").exists() for directory in directories):
        return f"systemctl enable --now {program}"
    return f"{program} run --config {settings}"


def _write(file: FirstFile) -> None:
    before = os.umask(_DIRECTORY_UMASK)
    try:
        file.path.parent.parent.mkdir(parents=True, exist_ok=True)
        mode = _SECRET_DIRECTORY_MODE if file.is_secret else 0o777
        file.path.parent.mkdir(mode, exist_ok=True)
        os.umask(0o777 & ~file.mode)  # whatever the user's is: services must read it
        replace_file(file.path, file.content.encode(), mode=file.mode)
        if file.group_id is not None:
            os.chown(file.path, -1, file.group_id)
    except PermissionError:
        sentence = f"cannot write {file.path}: run this as root, or give another --directory"
        raise GoodspeedError(sentence) from None
    finally:
        os.umask(before)


def _shown(file: FirstFile) -> str:
    if file.is_secret:
        return ", a secret"
    if not file.is_shown:
        return ""
    return "".join(f"\n    {line}" for line in file.content.splitlines())
