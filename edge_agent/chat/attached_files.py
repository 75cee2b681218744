"""Files as a part of a question: their text, behind the question, each with its name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from shared.errors import RequestRefused

# Half of what a message to the agent holds.
MAX_FILE_BYTES = 1 << 20
_MENTION = re.compile(r'(?<!\S)@(?:"([^"\n]+)"|(\S+))')
_BEHIND_A_NAME = ".,;:!?)]}'\""
_FENCES = re.compile(r"^ *(`{3,})", re.MULTILINE)


class AttachedFile(NamedTuple):
    """A file as it was read."""

    name: str
    text: str


class Mentions(NamedTuple):
    """What the words of a question that begin with `@` name."""

    files: tuple[AttachedFile, ...]
    unknown: tuple[str, ...]  # no files, so they are text


def read_text_file(name: str) -> AttachedFile:
    """The file of this name; `~` is the home directory.

    Raises:
        RequestRefused: it is not there, too large, or no text.
    """
    try:
        path = Path(name).expanduser()
        if not path.is_file():  # what is a pipe or a device might never end
            reason = "is no file" if path.exists() else "is not there"
            raise RequestRefused(f"{name} {reason}")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RequestRefused(f"cannot read {name}: {reason.lower()}") from error
    if len(content) > MAX_FILE_BYTES:
        raise RequestRefused(f"{name} exceeds {MAX_FILE_BYTES >> 20} MB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestRefused(f"{name} is no text (byte {error.start} is not UTF-8)") from error
    if "\0" in text:
        raise RequestRefused(f"{name} is no text")
    return AttachedFile(name, text)


def read_mentions(question: str) -> Mentions:
    """The files that a question names by `@path` or `@"path with spaces"`.

    Raises:
        RequestRefused: one of them cannot be read.
    """
    files: dict[str, AttachedFile] = {}
    unknown = []
    for match in _MENTION.finditer(question):
        name = _existing(match[1] or match[2])
        if name is None:
            unknown.append(match[0])
        elif name not in files:
            files[name] = read_text_file(name)
    return Mentions(tuple(files.values()), tuple(unknown))


def with_files(question: str, files: tuple[AttachedFile, ...]) -> str:
    """The question, and below it each file between fences that it does not contain."""
    parts = [question] if question else []
    for file in files:
        longest = max((len(fence) for fence in _FENCES.findall(file.text)), default=2)
        fence = "`" * max(longest + 1, 3)
        body = file.text if file.text.endswith("\n") else file.text + "\n"
        parts.append(f"{file.name}:\n{fence}\n{body}{fence}")
    return "\n\n".join(parts)


def _existing(name: str) -> str | None:
    for candidate in (name, name.rstrip(_BEHIND_A_NAME)):
        try:
            if candidate and Path(candidate).expanduser().exists():
                return candidate
        except (OSError, RuntimeError, ValueError):
            continue
    return None
