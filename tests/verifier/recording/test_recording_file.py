from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from shared.errors import ConfigError
from tests.support.ends.recordings import BEGIN, known_lines, rounds_of
from verifier.recording.lines import Line, RoundEnd, StreamEnd, StreamPart
from verifier.recording.recording_file import read_recording


def write(path: Path, lines: list[Line]) -> Path:
    path.write_bytes(msgspec.json.Encoder().encode_lines(lines))
    return path


def problems(path: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        read_recording(path)
    return tuple(problem.removeprefix(f"{path}") for problem in caught.value.problems)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    lines = known_lines()
    recording = read_recording(write(tmp_path / "r.jsonl", lines))
    assert BEGIN == recording.begin
    assert tuple(rounds_of(lines)) == recording.rounds
    assert ([1, 100, 200], [100, 200]) == (list(recording.streams), list(recording.ends))
    assert {"near", "idle"} == set(recording.speeds)
    assert rounds_of(lines)[-1].at_seconds == recording.seconds


def test_a_last_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", known_lines())
    whole = read_recording(path)
    path.write_bytes(path.read_bytes() + b'{"kind":"rou')
    assert whole == read_recording(path)


def test_every_cut_is_a_shorter_recording_or_one_sentence(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", known_lines(num_rounds=3))
    content = path.read_bytes()
    first_round_ends = content.index(b"\n", content.index(b'"round"'))
    for length in range(len(content)):
        path.write_bytes(content[:length])
        if length > first_round_ends:
            assert read_recording(path).rounds
        else:
            assert 1 == len(problems(path))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (known_lines()[1:], ":1: is not the beginning of a recording"),
        (
            [msgspec.structs.replace(BEGIN, version=9), *known_lines()[1:]],
            ":1: is of version 9; this program reads version 1",
        ),
        ([BEGIN], ":1: ends before the first round; record for longer"),
        ([*known_lines(num_rounds=1), BEGIN], ":5: begins a second recording"),
        (
            [BEGIN, StreamEnd(1.0, 7, "stop")],
            ":2: ends stream 7, which never began",
        ),
        (
            [BEGIN, RoundEnd(1.0, 1.0, 1.0, 1, 0, 1, (StreamPart(3, 0, 0, 1),))],
            ":2: has a part of stream 3 before it began",
        ),
    ],
)
def test_what_cannot_be_is_named_with_its_line(
    lines: list[Line], expected: str, tmp_path: Path
) -> None:
    assert problems(write(tmp_path / "r.jsonl", lines))[0].startswith(expected)


@pytest.mark.parametrize("line", [b"", b"7", b"\xff", b'{"kind":"round"}', b'{"kind":"new"}'])
def test_a_line_of_something_else_is_named(line: bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", known_lines(num_rounds=1))
    path.write_bytes(path.read_bytes() + line + b"\n")
    assert problems(path)[0].startswith(":5: no line of a recording: ")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert (": cannot be read: No such file or directory",) == problems(tmp_path / "none")
