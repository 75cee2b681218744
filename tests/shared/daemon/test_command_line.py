"""Options that commands of both programs share."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edge_agent.config import AgentConfig
from shared.config.layers import ConfigFile
from shared.config.sections import Loaded
from shared.daemon.command_line import (
    CommandModules,
    SettingsSource,
    settings_options,
    told_when_interrupted,
)
from shared.errors import ConfigError
from tests.support.programs.command import PATIENCE_SECONDS, ROOT

SETTINGS = SettingsSource(AgentConfig, Path("/nowhere/agent.toml"))
# A program whose loading thread is deep in native code when its command ends.
BUSY_PROGRAM = """
import asyncio, os, signal
import click, torch
from shared.daemon.command_line import FriendlyGroup
from shared.daemon.lifecycle import in_daemon_thread, run_loop
from shared.errors import ConfigError

def load():
    matrix = torch.zeros(64, 64)
    while True:
        matrix = torch.nn.functional.linear(matrix, matrix)

async def serve():
    loading = asyncio.ensure_future(in_daemon_thread(load))
    await asyncio.sleep(0.2)
    {ending}
    await loading

@click.group(cls=FriendlyGroup)
def main():
    pass

@main.command()
def run():
    run_loop(serve())

main()
"""


@click.command()
@click.option("--above", default="a")
@settings_options(SETTINGS)
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


def test_a_directory_in_place_of_the_file_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        SETTINGS.load(tmp_path, ())
    result = CliRunner().invoke(show_level, ("--config", str(tmp_path)))
    assert isinstance(result.exception, ConfigError)


def test_without_a_file_that_is_named_the_one_of_the_machine_is_read(
    tmp_path: Path,
) -> None:
    file = tmp_path / "agent.toml"
    profile = ConfigFile("profile", '[log]\nlevel = "debug"\n[draft]\nthreads = 7\n')
    source = SettingsSource(AgentConfig, file, lambda: (profile,))
    assert "debug" == source.load(None, ()).config.log.level
    file.write_text('[log]\nlevel = "error"\n')
    loaded = source.load(None, ("draft.max_streams=9",))
    assert ("error", 7, 9) == (
        loaded.config.log.level,
        loaded.config.draft.threads,
        loaded.config.draft.max_streams,
    )
    other = tmp_path / "other.toml"
    other.write_text("")
    assert "debug" == source.load(other, ()).config.log.level


def test_a_command_of_a_module_is_imported_when_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "their_commands"
    package.mkdir()
    for name in ("one", "two"):
        (package / f"{name}.py").write_text(
            f"import click\n@click.command()\ndef {name}():\n"
            f'    """Say {name}."""\n    click.echo("said {name}")\n'
        )
    monkeypatch.syspath_prepend(str(tmp_path))
    group = CommandModules(package="their_commands", names=("two", "one"), name="theirs")
    result = CliRunner().invoke(group, ["one"])
    assert "said one\n" == result.output
    assert "their_commands.two" not in sys.modules
    help_ = CliRunner().invoke(group, ["--help"]).output
    assert help_.index("Say one.") < help_.index("Say two.")
    assert 2 == CliRunner().invoke(group, ["sys"]).exit_code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_says_what_it_leaves_behind(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), told_when_interrupted("nothing was written"):
        signal.raise_signal(number)
    assert "nothing was written\n" == capsys.readouterr().err
    assert before == signal.getsignal(number)


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGINT)", 130, ""),
        ("raise OSError('the port is taken')", 2, "error: the port is taken\n"),
        ("raise ConfigError(('a.toml:1: no',))", 78, None),
    ],
)
def test_a_program_that_ends_while_a_model_loads_ends_in_order(
    ending: str, code: int, said: str | None
) -> None:
    pytest.importorskip("torch")
    ended = subprocess.run(
        [sys.executable, "-c", BUSY_PROGRAM.format(ending=ending), "run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE_SECONDS,  # torch is imported
        check=False,
    )
    assert code == ended.returncode, ended.stderr
    assert "terminate called" not in ended.stderr
    assert said is None or said == ended.stderr
