"""The cache directory: where it is, who holds it, and what a crash leaves."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from pathlib import Path

import pytest

from edge_agent.models.cache import (
    check_free_space,
    install,
    recorded_sha256,
    sha256_of,
    work_dir,
)
from shared.errors import ModelError


def nobody_waits() -> None:
    pytest.fail("nobody else holds this cache")


def test_the_checksum_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(2_500_000))
    seen: list[int] = []
    assert hashlib.sha256(bytes(2_500_000)).hexdigest() == sha256_of(path, seen.append)
    assert [1 << 20, 2 << 20, 2_500_000] == seen


def test_an_installed_file_has_a_checksum_that_sha256sum_can_read(tmp_path: Path) -> None:
    finished = tmp_path / "unfinished"
    finished.write_bytes(b"weights")
    path = tmp_path / "wren.gguf"
    install(finished, path, "ab" * 32)
    assert b"weights" == path.read_bytes()
    assert "ab" * 32 == recorded_sha256(path)
    assert f"{'ab' * 32}  wren.gguf\n" == (tmp_path / "wren.gguf.sha256").read_text()
    assert ["wren.gguf", "wren.gguf.sha256"] == sorted(p.name for p in tmp_path.iterdir())


def test_a_model_without_a_checksum_has_none(tmp_path: Path) -> None:
    assert recorded_sha256(tmp_path / "wren.gguf") is None
    (tmp_path / "wren.gguf.sha256").write_text("")
    assert recorded_sha256(tmp_path / "wren.gguf") is None


def test_the_work_directory_vanishes_with_its_files(tmp_path: Path) -> None:
    def interrupted() -> None:
        with work_dir(tmp_path, nobody_waits) as directory:
            (directory / "half").write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [".lock"] == [path.name for path in tmp_path.iterdir()]


def test_what_a_killed_pull_left_is_removed(tmp_path: Path) -> None:
    left_behind = tmp_path / ".pull-dead"
    left_behind.mkdir()
    (left_behind / "half.gguf").write_bytes(b"half")
    with work_dir(tmp_path, nobody_waits):
        assert not left_behind.exists()


def test_a_second_pull_waits_for_the_first(tmp_path: Path) -> None:
    first = os.open(tmp_path / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(first, fcntl.LOCK_EX)
    waits = []

    def first_ends() -> None:
        waits.append("waited")
        os.close(first)

    with work_dir(tmp_path, first_ends) as directory:
        assert directory.is_dir()
    assert ["waited"] == waits


def test_too_little_room_is_one_sentence_with_both_numbers(tmp_path: Path) -> None:
    check_free_space(tmp_path, 1)
    needed = shutil.disk_usage(tmp_path).total + 1_000_000
    with pytest.raises(ModelError, match=r"has \d+ MB left, \d+ are needed"):
        check_free_space(tmp_path, needed)
