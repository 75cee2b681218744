"""A file is replaced in one step, or stays as it was."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from shared.daemon import files
from shared.daemon.files import move_into_place, replace_file


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class Disk:
    """What is done to files, in order: the names that are flushed and moved."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.steps: list[tuple[str, ...]] = []
        self._sync, self._replace = os.fsync, Path.replace
        patch.setattr(os, "fsync", self._flushed)
        patch.setattr(Path, "replace", lambda source, target: self._moved(source, target))

    def _flushed(self, descriptor: int) -> None:
        self.steps.append(("flush", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        self._sync(descriptor)

    def _moved(self, source: Path, target: Path) -> Path:
        self.steps.append(("move", source.name, target.name))
        return self._replace(source, target)


def test_a_new_file_has_the_given_mode_and_its_directories(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "secret"
    replace_file(path, b"new", mode=0o600)
    assert (b"new", 0o600) == (path.read_bytes(), mode_of(path))
    assert [path] == list(path.parent.iterdir())


@pytest.mark.parametrize(("keeps_owner", "expected"), [(False, 0o600), (True, 0o640)])
def test_an_old_file_keeps_its_mode_only_where_that_is_asked_for(
    keeps_owner: bool, expected: int, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old and longer")
    path.chmod(0o640)
    replace_file(path, b"new", mode=0o600, keeps_owner=keeps_owner)
    assert (b"new", expected) == (path.read_bytes(), mode_of(path))


def test_what_a_killed_process_left_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "file.new").write_bytes(b"half of it, and open to all")
    (tmp_path / "file.new").chmod(0o666)
    replace_file(tmp_path / "file", b"new", mode=0o600)
    assert (b"new", 0o600) == ((tmp_path / "file").read_bytes(), mode_of(tmp_path / "file"))
    assert ["file"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("owner_of_step", [(os, "fsync"), (Path, "replace")])
@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    owner_of_step: tuple[object, str],
    error: BaseException,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(*_: object) -> None:
        raise error

    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(*owner_of_step, failing)
    with pytest.raises(type(error)):
        replace_file(path, b"new", mode=0o644)
    assert b"old" == path.read_bytes()
    assert [path] == list(tmp_path.iterdir())


def test_a_full_disk_is_told_with_the_name_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "flush", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        replace_file(tmp_path / "tokens", b"kitchen", mode=0o600)
    assert str(tmp_path / "tokens") == caught.value.filename
    assert [] == list(tmp_path.iterdir())


def test_bytes_are_on_the_disk_before_the_name_and_the_name_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    replace_file(tmp_path / "file", b"new", mode=0o644)
    expected = [("flush", "file.new"), ("move", "file.new", "file"), ("flush", tmp_path.name)]
    assert expected == disk.steps


def test_a_finished_file_is_moved_in_the_same_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "finished").write_bytes(b"weights")
    disk = Disk(monkeypatch)
    move_into_place(tmp_path / "finished", tmp_path / "model")
    expected = [("flush", "finished"), ("move", "finished", "model"), ("flush", tmp_path.name)]
    assert expected == disk.steps
    assert b"weights" == (tmp_path / "model").read_bytes()
