from __future__ import annotations

from pathlib import Path

import msgspec
from click.testing import CliRunner, Result

from tests.support.ends.recordings import known_lines
from verifier.cli import main


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def record(path: Path, num_rounds: int = 200) -> Path:
    lines = known_lines(num_rounds=num_rounds)
    path.write_bytes(msgspec.json.Encoder().encode_lines(lines))
    return path


def test_a_recording_becomes_a_scenario_that_plays(tmp_path: Path) -> None:
    scenario = tmp_path / "evening.toml"
    result = invoke("calibrate", record(tmp_path / "r.jsonl"), "--scenario", scenario)
    assert 0 == result.exit_code, result.output
    assert "milliseconds of a round" in result.output
    assert "tokens/s of near" in result.output
    names = {"r.jsonl", "evening.toml", "evening.trace1.json", "evening.requests.json"}
    assert names == {path.name for path in tmp_path.iterdir()}
    assert 0 == invoke("simulate", scenario).exit_code


def test_without_a_name_nothing_is_written(tmp_path: Path) -> None:
    recording = record(tmp_path / "r.jsonl")
    assert 0 == invoke("calibrate", recording).exit_code
    assert [recording] == list(tmp_path.iterdir())


def test_what_is_no_recording_is_one_sentence_and_code_78(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello\n")
    result = invoke("calibrate", tmp_path / "notes.txt")
    assert 78 == result.exit_code
    assert "notes.txt:1: no line of a recording" in result.output
    assert "Traceback" not in result.output


def test_too_short_a_recording_says_how_much_is_needed(tmp_path: Path) -> None:
    result = invoke("calibrate", record(tmp_path / "r.jsonl", num_rounds=5))
    assert 78 == result.exit_code
    assert "5 rounds without a prompt were recorded; 20 are needed" in result.output
