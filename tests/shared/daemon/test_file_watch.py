"""A file is taken over when it changes, in virtual time: here that of tokens."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.daemon.file_watch import watch_file
from verifier.server.device_tokens import new_token, read_tokens

KITCHEN, GARAGE = (new_token(name, bytes(range(32)))[1] for name in ("kitchen", "garage"))


class Enough(Exception):
    pass


def write(path: Path, text: str) -> None:
    """Another file in its place, as `token revoke` does."""
    fresh = path.with_name("fresh")
    fresh.write_text(text)
    fresh.chmod(0o600)
    os.replace(fresh, path)


def taken_over(path: Path, steps: list[Callable[[], object]]) -> list[set[str]]:
    """The devices of each file that was taken over, while one step follows another."""
    taken: list[set[str]] = []
    following = iter(steps)

    async def sleep(seconds: float) -> None:
        try:
            next(following)()
        except StopIteration:
            raise Enough from None

    def take(changed: Path) -> None:
        taken.append(set(read_tokens(changed)))

    with pytest.raises(Enough):
        asyncio.run(watch_file(lambda: path, take, sleep=sleep))
    return taken


def nothing() -> None:
    pass


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    write(path, f"{KITCHEN}\n{GARAGE}\n")
    return path


def test_each_change_is_taken_over_once(tokens: Path) -> None:
    steps = [
        nothing,
        lambda: write(tokens, f"{KITCHEN}\n"),
        nothing,
        nothing,
        lambda: write(tokens, f"{KITCHEN}\n{GARAGE}\n"),
    ]
    assert [{"kitchen"}, {"kitchen", "garage"}] == taken_over(tokens, steps)


def test_a_file_that_is_wrong_or_gone_changes_nothing_and_is_told_of_once(
    tokens: Path, caplog: pytest.LogCaptureFixture
) -> None:
    steps = [
        lambda: write(tokens, "kitchen\n"),
        nothing,
        lambda: tokens.chmod(0o644),
        tokens.unlink,
        nothing,
        lambda: write(tokens, f"{GARAGE}\n"),
    ]
    with caplog.at_level(logging.ERROR):
        assert [{"garage"}] == taken_over(tokens, steps)
    wrong, gone = caplog.messages
    assert f"{tokens}:1: must be a device name and 64 hex digits; all stays" in wrong
    assert f"{tokens}: cannot be read: No such file or directory; all stays" in gone
