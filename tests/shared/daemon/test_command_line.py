"""Options that commands of both programs share."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edge_agent.config import AgentConfig
from shared.config.sections import Loaded
from shared.daemon.command_line import settings_options


@click.command()
@click.option("--above", default="a")
@settings_options(AgentConfig)
@click.option("--below", default="b")
def show_level(loaded: Loaded[AgentConfig], above: str, below: str) -> None:
    """Say what was given."""
    click.echo(f"{loaded.config.log.level} {above} {below}")


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(show_level, arguments, catch_exceptions=False)
    assert 0 == result.exit_code, result.output
    return result.output


def test_a_command_keeps_its_name_its_help_and_its_options() -> None:
    assert "show-level" == show_level.name
    text = invoke("--help")
    assert "Say what was given." in text
    places = [text.index(option) for option in ("--above", "--config", "--set", "--below")]
    assert sorted(places) == places


def test_settings_come_from_the_file_and_over_it_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOODSPEED__VERIFIER__URL", "ws://127.0.0.1:1")
    file = tmp_path / "agent.toml"
    file.write_text('[log]\nlevel = "debug"\n')
    assert "debug 1 b\n" == invoke("--config", str(file), "--above", "1")
    assert "error a 2\n" == invoke(
        *("--config", str(file), "--set", "log.level=error", "--below", "2")
    )
