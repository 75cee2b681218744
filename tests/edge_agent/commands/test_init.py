"""`goodspeed-agent init`: from nothing to settings that `run` takes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge_agent.cli import main

TOKEN = f"gsd_kitchen_{'A' * 43}"
OTHER = f"gsd_kitchen_{'B' * 43}"
URL = "ws://192.168.1.10:8443"


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without models and settings."""
    monkeypatch.setenv("GOODSPEED_MODEL_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("GOODSPEED_PROFILE", "pi4")
    return tmp_path / "models"


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    return tmp_path / "etc" / "goodspeed"


def init(etc: Path, *options: str, url: str = URL, token: str | None = TOKEN) -> Result:
    source = () if token is None else ("--token", "-")
    arguments = ["init", "--verifier", url, *source, "--directory", str(etc), *options]
    return CliRunner().invoke(main, arguments, input=f"{token}\n" if token else "")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_writes_settings_that_all_may_read_and_a_token_that_none_but_its_owner_may(
    etc: Path,
) -> None:
    before = os.umask(0o077)
    try:
        result = init(etc)
    finally:
        os.umask(before)
    assert 0 == result.exit_code, result.output
    assert 0o644 == mode(etc / "agent.toml")
    assert 0o755 == mode(etc)
    assert 0o600 == mode(etc / "credentials" / "token")
    assert 0o750 == mode(etc / "credentials")
    assert f"{TOKEN}\n" == (etc / "credentials" / "token").read_text()
    assert TOKEN not in result.output
    checked = CliRunner().invoke(main, ["config", "check", "--config", str(etc / "agent.toml")])
    assert "all settings are right\n" == checked.stdout


def test_it_says_which_board_it_found(etc: Path) -> None:
    first = init(etc).stdout.splitlines()[0]
    assert first.startswith("board: ")
    assert first.endswith(", profile pi4")


def test_it_says_what_is_next(etc: Path, models: Path) -> None:
    assert "next: goodspeed-agent model pull smollm2-135m-instruct-q4_0\n" in init(etc).stdout
    models.mkdir()
    (models / "smollm2-135m-instruct-q4_0.gguf").touch()
    assert f"next: goodspeed-agent run --config {etc}/agent.toml\n" in init(etc).stdout


def test_a_second_call_changes_nothing(etc: Path) -> None:
    init(etc)
    before = {path: path.stat().st_mtime_ns for path in etc.rglob("*")}
    result = init(etc)
    assert 0 == result.exit_code
    assert 2 == result.stdout.count("is there already")
    assert before == {path: path.stat().st_mtime_ns for path in etc.rglob("*")}
    assert 0 == init(etc, token=None).exit_code


def test_a_dry_run_writes_nothing_and_shows_no_secret(etc: Path) -> None:
    result = init(etc, "--dry-run")
    assert 0 == result.exit_code
    assert not etc.exists()
    assert f'url = "{URL}"' in result.stdout
    assert TOKEN not in result.output


def test_what_the_operator_wrote_stays_unless_it_may_be_replaced(etc: Path) -> None:
    init(etc)
    (etc / "agent.toml").write_text(f'[verifier]\nurl = "{URL}"\n[draft]\nthreads = 2\n')
    refused = init(etc, token=OTHER)
    assert 78 == refused.exit_code
    assert [
        f"{etc}/agent.toml: holds something else; edit it, or give --replace to write it anew",
        f"{etc}/credentials/token: holds something else; edit it, or give --replace to write it "
        "anew",
        "2 problems. Nothing was started.",
    ] == refused.stderr.splitlines()
    assert "threads = 2" in (etc / "agent.toml").read_text()
    assert 0 == init(etc, "--replace", token=OTHER).exit_code
    assert f"{OTHER}\n" == (etc / "credentials" / "token").read_text()


def test_a_token_that_others_could_reach_is_made_safe(etc: Path) -> None:
    init(etc)
    (etc / "credentials" / "token").chmod(0o644)
    init(etc)
    assert 0o600 == mode(etc / "credentials" / "token")


@pytest.mark.parametrize(
    ("url", "token", "expected"),
    [
        ("http://gpu1", TOKEN, "verifier.url = "),
        ("ws://gpu1.example.org", TOKEN, "must be wss:// for a host"),
        (URL, "gsd_kitchen", "--token -: must be a token as `goodspeed-verifier token add`"),
        (URL, None, "--token: must be given; `goodspeed-verifier token add` makes one"),
    ],
)
def test_what_cannot_be_right_writes_nothing(
    etc: Path, url: str, token: str | None, expected: str
) -> None:
    result = init(etc, url=url, token=token)
    assert 78 == result.exit_code
    assert expected in result.stderr
    assert not etc.exists()


def test_a_token_on_the_command_line_is_refused_and_not_repeated(etc: Path) -> None:
    arguments = ["init", "--verifier", URL, "--token", TOKEN, "--directory", str(etc)]
    result = CliRunner().invoke(main, arguments)
    assert 78 == result.exit_code
    assert "other users see the command line" in result.stderr
    assert TOKEN not in result.output


def test_a_token_comes_from_a_file_as_well(etc: Path, tmp_path: Path) -> None:
    file = tmp_path / "brought"
    file.touch(0o600)
    file.write_text(TOKEN)
    arguments = ["init", "--verifier", URL, "--token", str(file), "--directory", str(etc)]
    assert 0 == CliRunner().invoke(main, arguments).exit_code
    assert f"{TOKEN}\n" == (etc / "credentials" / "token").read_text()


def test_a_place_that_this_user_may_not_write_to_is_one_sentence(
    etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("shared.daemon.first_files.replace_file", refuse)
    result = init(etc)
    assert 2 == result.exit_code
    assert "run this as root, or give another --directory" in result.stderr
