"""`goodspeed-verifier init`: from nothing to settings that `run` takes, and a place for tokens."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from verifier.cli import main
from verifier.server.device_tokens import read_tokens


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    return tmp_path / "etc"


def init(etc: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["init", "--directory", str(etc), *options])


def test_it_writes_settings_and_an_empty_file_of_tokens(etc: Path) -> None:
    result = init(etc, "--model", "/srv/model")
    assert 0 == result.exit_code, result.output
    assert {} == read_tokens(etc / "credentials" / "tokens")
    assert 0o640 == stat.S_IMODE((etc / "credentials" / "tokens").stat().st_mode)
    assert 0o644 == stat.S_IMODE((etc / "verifier.toml").stat().st_mode)
    shown = CliRunner().invoke(main, ["config", "show", "--config", str(etc / "verifier.toml")])
    assert f'host = "0.0.0.0"  # {etc}/verifier.toml:5\n' in shown.stdout
    assert f'model = "/srv/model"  # {etc}/verifier.toml:9\n' in shown.stdout


def next_commands(result: Result) -> list[str]:
    told = result.stdout.splitlines()
    return [line.removeprefix("next: ") for line in told if line.startswith("next: ")]


def test_the_next_commands_are_those_that_are_missing(
    etc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOODSPEED_MODEL_DIR", str(tmp_path))
    tokens, start = etc / "credentials/tokens", f"goodspeed-verifier run --config {etc}/verifier"
    assert [
        "goodspeed-agent model pull smollm2-135m-instruct",
        f"goodspeed-verifier token add BOARD --tokens-file {tokens}",
        f"{start}.toml",
    ] == next_commands(init(etc))
    (tmp_path / "smollm2-135m-instruct.gguf").touch()
    CliRunner().invoke(main, ["token", "add", "kitchen", "--tokens-file", str(tokens)])
    assert [f"{start}.toml"] == next_commands(init(etc))
    assert {"kitchen"} == read_tokens(tokens).keys()


def test_a_second_call_changes_nothing(etc: Path) -> None:
    init(etc)
    before = {path: path.stat().st_mtime_ns for path in etc.rglob("*")}
    assert 2 == init(etc).stdout.count("is there already")
    assert before == {path: path.stat().st_mtime_ns for path in etc.rglob("*")}


def test_a_dry_run_writes_nothing(etc: Path) -> None:
    result = init(etc, "--dry-run")
    assert f"would write {etc}/verifier.toml (mode 644)" in result.stdout
    assert not etc.exists()


def test_other_settings_stay_unless_they_may_be_replaced(etc: Path) -> None:
    init(etc)
    refused = init(etc, "--host", "::1")
    assert 78 == refused.exit_code
    assert "holds something else" in refused.stderr
    assert 0 == init(etc, "--host", "::1", "--replace").exit_code
    assert 'host = "::1"' in (etc / "verifier.toml").read_text()
