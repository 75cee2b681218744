"""Prompts from files: what the target is asked beside its own questions.

Pure but for reading files. It must never take a line that it does not understand for a prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from shared.errors import RequestRefused

MAX_FILE_BYTES = 1 << 28
_PLAIN_DOMAIN = "prompts"


class Prompt(msgspec.Struct, frozen=True):
    """What a user says first, and what kind of talk it begins."""

    text: str
    domain: str = _PLAIN_DOMAIN


class _Line(msgspec.Struct):
    prompt: str = ""
    turns: tuple[str, ...] = ()
    domain: str = _PLAIN_DOMAIN


def read_prompts(paths: Iterable[Path]) -> tuple[Prompt, ...]:
    """All prompts of all files: JSON objects with `prompt` or `turns` in `.jsonl`, else one a line.

    Raises:
        RequestRefused: a file is missing, too large, not UTF-8, or a line is no prompt; it is told.
    """
    return tuple(prompt for path in paths for prompt in _prompts_of(path))


def _prompts_of(path: Path) -> Iterator[Prompt]:
    found = False
    for number, line in enumerate(_text_of(path).split("\n"), start=1):
        if not line.strip():
            continue
        found = True
        yield _object(path, number, line) if path.suffix == ".jsonl" else Prompt(line.strip())
    if not found:
        raise RequestRefused(f"{path} has no prompt")


def _text_of(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise RequestRefused(f"{path} has more than {MAX_FILE_BYTES >> 20} MiB of prompts")
        return path.read_bytes().decode("utf-8-sig")  # some editors put a mark in front
    except OSError as error:
        raise RequestRefused(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RequestRefused(
            f"{path} is not UTF-8 text: byte {error.object[error.start]:#04x} at {error.start}"
        ) from error


def _object(path: Path, number: int, line: str) -> Prompt:
    try:
        read = msgspec.json.decode(line, type=_Line)
    except msgspec.MsgspecError as error:
        raise RequestRefused(f"{path}, line {number}: {error}") from error
    text = read.prompt or next(iter(read.turns), "")
    if not text.strip():
        raise RequestRefused(f"{path}, line {number}: has neither a prompt nor turns")
    return Prompt(text, read.domain.split("/")[0] or _PLAIN_DOMAIN)
