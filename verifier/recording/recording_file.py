"""A recording as it is read back: whole, or not at all; every problem with its line."""

from __future__ import annotations

from pathlib import Path

import msgspec

from shared.errors import ConfigError
from verifier.recording.lines import (
    VERSION,
    Begin,
    Boards,
    BoardSpeed,
    Line,
    RoundEnd,
    StreamBegin,
    StreamEnd,
)

_MOST_PROBLEMS = 5


class Recording(msgspec.Struct, frozen=True):
    """What a file holds."""

    begin: Begin
    rounds: tuple[RoundEnd, ...]
    streams: dict[int, StreamBegin]  # by number, in the order of their first parts
    ends: dict[int, StreamEnd]  # of those that ended
    speeds: dict[str, BoardSpeed]  # by device: what was known last

    @property
    def seconds(self) -> float:
        """From its beginning to the last round."""
        return self.rounds[-1].at_seconds


def read_recording(path: Path) -> Recording:
    """The recording of a file; a last line that was cut off is left out.

    Raises:
        ConfigError: with the first few problems, each with its line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError((f"{path}: cannot be read: {error.strerror}",)) from error
    whole, _, _ = content.rpartition(b"\n")
    lines, problems = _decoded(path, whole.split(b"\n"))
    if not problems:
        problems = [f"{path}:{number}: {words}" for number, words in _misfits(lines)]
    if problems:
        raise ConfigError(tuple(problems[:_MOST_PROBLEMS]))
    begin = lines[0]
    assert isinstance(begin, Begin), "the first problem says so"
    speeds: dict[str, BoardSpeed] = {}
    for line in lines:
        if isinstance(line, Boards):
            speeds |= line.boards
    return Recording(
        begin=begin,
        rounds=tuple(line for line in lines if isinstance(line, RoundEnd)),
        streams={line.stream: line for line in lines if isinstance(line, StreamBegin)},
        ends={line.stream: line for line in lines if isinstance(line, StreamEnd)},
        speeds=speeds,
    )


def _decoded(path: Path, packed: list[bytes]) -> tuple[list[Line], list[str]]:
    decoder = msgspec.json.Decoder(Line)
    lines: list[Line] = []
    problems: list[str] = []
    for number, text in enumerate(packed, start=1):
        try:
            lines.append(decoder.decode(text))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            problems.append(f"{path}:{number}: no line of a recording: {error}")
    return lines, problems


def _misfits(lines: list[Line]) -> list[tuple[int, str]]:
    begin = lines[0]
    if not isinstance(begin, Begin):
        return [(1, "is not the beginning of a recording (`goodspeed-verifier run --record`)")]
    if begin.version != VERSION:
        return [(1, f"is of version {begin.version}; this program reads version {VERSION}")]
    problems: list[tuple[int, str]] = []
    known: set[int] = set()
    num_rounds = 0
    for number, line in enumerate(lines[1:], start=2):
        match line:
            case Begin():
                problems.append((number, "begins a second recording"))
            case StreamBegin():
                known.add(line.stream)
            case StreamEnd() if line.stream not in known:
                problems.append((number, f"ends stream {line.stream}, which never began"))
            case RoundEnd():
                num_rounds += 1
                strange = sorted({part.stream for part in line.parts} - known)
                if strange:
                    problems.append((number, f"has a part of stream {strange[0]} before it began"))
            case _:
                pass
    if not num_rounds and not problems:
        problems.append((len(lines), "ends before the first round; record for longer"))
    return problems
