"""`goodspeed-verifier` as a person or a service manager runs it."""

from __future__ import annotations

import asyncio
import signal
import socket
import stat
import sys
import tomllib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from shared.protocol.messages import Error, ErrorCode
from tests.support.ends.loopback import Verifier, make_server
from tests.support.ends.raw_board import raw_board
from tests.support.ends.scripted import scripted_service
from tests.support.programs.command import run
from tests.support.programs.program import Program
from verifier.cli import main
from verifier.server.device_tokens import device_of, read_tokens

# The program with a target that needs no torch; everything else is real.
SCRIPTED = """
import sys
import verifier.startup
from tests.support.ends.scripted import scripted_service
verifier.startup.load_service = lambda *_: scripted_service()
verifier.startup.save_curve = lambda config, service: None
from verifier.cli import main
main(sys.argv[1:])
"""
REAL = "import sys; from verifier.cli import main; main(sys.argv[1:])"


def invoke(*arguments: str | Path, **environment: str) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], env=environment)


# --- settings -------------------------------------------------------------------------------------


def test_config_check_reports_every_problem_at_once(tmp_path: Path) -> None:
    file = tmp_path / "verifier.toml"
    file.write_text('[server]\nport = 99999\nhots = "::"\n[rounds]\npolicy = "fair"\n')
    result = invoke("config", "check", "--config", file, GOODSPEED__LOG__LEVEL="loud")
    assert 78 == result.exit_code
    assert "" == result.stdout
    assert [
        f"{file}:2: server.port = 99999: must be from 0 to 65535",
        f"{file}:3: server.hots: unknown key (did you mean server.host?)",
        f'{file}:5: rounds.policy = "fair": must be awc, fixed, goodspeed, greedy, '
        "random, rate or threshold",
        'environment GOODSPEED__LOG__LEVEL: log.level = "loud": '
        "must be debug, error, info or warning",
        "4 problems. Nothing was started.",
    ] == result.stderr.splitlines()


def test_config_check_says_when_all_is_well(tmp_path: Path) -> None:
    file = tmp_path / "verifier.toml"
    file.write_text(invoke("config", "init").stdout)
    result = invoke("config", "check", "--config", file)
    assert (0, "all settings are right\n") == (result.exit_code, result.stdout)


def test_config_show_says_where_a_value_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "verifier.toml"
    file.write_text("[server]\nport = 1234\n")
    result = invoke("config", "show", "--config", file, "--set", "server.host=::1")
    assert 0 == result.exit_code
    assert f"port = 1234  # {file}:2" in result.stdout
    assert 'host = "::1"  # command line' in result.stdout
    assert 1234 == tomllib.loads(result.stdout)["server"]["port"]


def test_a_setting_on_the_command_line_needs_a_value() -> None:
    result = invoke("config", "check", "--set", "server.port")
    assert 78 == result.exit_code
    assert "--set server.port: must be SECTION.KEY=VALUE" in result.stderr
    assert "--set =1: must be SECTION.KEY=VALUE" in invoke("config", "check", "--set", "=1").stderr


# --- tokens ---------------------------------------------------------------------------------------


def test_tokens_are_made_listed_and_revoked(tmp_path: Path) -> None:
    file = tmp_path / "etc" / "tokens"
    option = ("--tokens-file", file)
    kitchen = invoke("token", "add", "kitchen", *option)
    garage = invoke("token", "add", "garage", *option)
    assert (0, 0) == (kitchen.exit_code, garage.exit_code)
    tokens = read_tokens(file)
    assert "kitchen" == device_of(kitchen.stdout.strip(), tokens)
    assert "garage" == device_of(garage.stdout.strip(), tokens)
    assert kitchen.stdout.strip() not in file.read_text()
    assert "garage\nkitchen\n" == invoke("token", "ls", *option).stdout

    assert 0 == invoke("token", "revoke", "kitchen", *option).exit_code
    assert "garage\n" == invoke("token", "ls", *option).stdout
    assert device_of(kitchen.stdout.strip(), read_tokens(file)) is None


def test_many_tokens_are_made_at_once(tmp_path: Path) -> None:
    option = ("--tokens-file", tmp_path / "tokens")
    made = invoke("token", "add", "load", "--count", "3", *option).stdout.split()
    tokens = read_tokens(tmp_path / "tokens")
    assert ["load-1", "load-2", "load-3"] == [device_of(token, tokens) for token in made]
    assert "load-1\nload-2\nload-3\n" == invoke("token", "ls", *option).stdout


def test_a_token_of_another_role_is_listed_with_it(tmp_path: Path) -> None:
    option = ("--tokens-file", tmp_path / "tokens")
    invoke("token", "add", "kitchen", *option)
    made = invoke("token", "add", "prometheus", "--role", "metrics", *option).stdout.strip()
    assert made.startswith("gsd_prometheus_")
    assert "kitchen\nprometheus (metrics)\n" == invoke("token", "ls", *option).stdout
    assert {"kitchen"} == read_tokens(tmp_path / "tokens").keys()
    invoke("token", "revoke", "kitchen", *option)
    assert "prometheus (metrics)\n" == invoke("token", "ls", *option).stdout


def test_many_tokens_are_made_or_none_of_them(tmp_path: Path) -> None:
    option = ("--tokens-file", tmp_path / "tokens")
    invoke("token", "add", "load-2", *option)
    result = invoke("token", "add", "load", "--count", "3", *option)
    assert (78, "") == (result.exit_code, result.stdout)
    assert "device load-2 has a token already" in result.stderr
    assert "load-2\n" == invoke("token", "ls", *option).stdout


def test_a_new_file_of_tokens_is_its_owners_alone_and_an_old_one_keeps_its_mode(
    tmp_path: Path,
) -> None:
    file = tmp_path / "tokens"
    invoke("token", "add", "kitchen", "--tokens-file", file)
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    file.chmod(0o640)
    invoke("token", "add", "garage", "--tokens-file", file)
    assert 0o640 == stat.S_IMODE(file.stat().st_mode)
    assert [file] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("add", "kitchen"), "{file}: device kitchen has a token already; revoke it first"),
        (
            ("add", "my_board"),
            "device name 'my_board' must be 1 to 63 letters, digits, dots and hyphens",
        ),
        (("revoke", "garage"), "{file}: no device garage"),
    ],
)
def test_what_cannot_be_done_with_a_token_is_said_and_changes_nothing(
    tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    file = tmp_path / "tokens"
    invoke("token", "add", "kitchen", "--tokens-file", file)
    before = file.read_text()
    result = invoke("token", *arguments, "--tokens-file", file)
    assert 78 == result.exit_code
    assert sentence.format(file=file) == result.stderr.splitlines()[0]
    assert before == file.read_text()


def test_a_file_of_tokens_that_everyone_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    invoke("token", "add", "kitchen", "--tokens-file", file)
    file.chmod(0o644)
    result = invoke("token", "ls", "--tokens-file", file)
    assert 78 == result.exit_code
    assert "chmod 640 mends it" in result.stderr


def test_a_place_where_nothing_can_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    file = tmp_path / "file" / "tokens"
    result = invoke("token", "add", "kitchen", "--tokens-file", file)
    assert 2 == result.exit_code
    assert result.stderr.startswith("error: ")
    assert 1 == len(result.stderr.splitlines())
    assert "[Errno" not in result.stderr


# --- run ------------------------------------------------------------------------------------------


def run_arguments(tokens_file: Path, port: int = 0) -> list[str]:
    return ["run", "--set", f"server.tokens_file={tokens_file}", "--set", f"server.port={port}"]


def test_wrong_weights_are_told_before_a_model_is_looked_for(tmp_path: Path) -> None:
    file, _ = with_token(tmp_path)
    own = tmp_path / "own.json"
    own.write_text("{}")
    settings = ("rounds.policy=awc", f"rounds.awc_weights={own}", "target.model=no-such-model")
    result = invoke(*run_arguments(file), *(word for x in settings for word in ("--set", x)))
    assert 78 == result.exit_code
    assert f"rounds.awc_weights: {own}:1: is no file of AWC's weights" in result.stderr


def with_token(tmp_path: Path) -> tuple[Path, str]:
    file = tmp_path / "tokens"
    return file, invoke("token", "add", "kitchen", "--tokens-file", file).stdout.strip()


def started(arguments: Sequence[str], directory: Path) -> Program:
    return Program("verifier", [sys.executable, *arguments], directory / "log")


def test_run_without_a_file_of_tokens_starts_nothing(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    code, _, errors = run(["-c", REAL, *run_arguments(file)])
    assert 78 == code
    expected = f"{file}: cannot be read: No such file or directory"
    assert [expected, "1 problem. Nothing was started."] == errors.splitlines()


def test_run_on_a_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    file, _ = with_token(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, _, errors = run(["-c", SCRIPTED, *run_arguments(file, port)])
    assert 2 == code
    (line,) = errors.splitlines()
    assert line.startswith("error: ")
    assert "Address already in use" in line
    assert str(port) in line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_running_verifier_well(tmp_path: Path, number: signal.Signals) -> None:
    file, token = with_token(tmp_path)

    async def generate(port: int) -> None:
        service = scripted_service()
        server = make_server(service, {})
        verifier = Verifier(service, server, port, {"kitchen": token})
        async with raw_board(verifier, "kitchen") as board:
            await board.open()

    with started(["-c", SCRIPTED, *run_arguments(file)], tmp_path) as program:
        line = program.line_with("serving")
        assert line.endswith(" for 1 device")
        port = int(line.split("ws://127.0.0.1:")[1].split()[0])
        asyncio.run(generate(port))
        code, seconds = program.end(number)
    assert 0 == code, program.lines
    assert seconds < 5
    assert program.lines[-1].endswith("stopped")


def test_under_a_service_manager_lines_carry_a_priority_and_no_time(tmp_path: Path) -> None:
    script = "import os; os.environ['JOURNAL_STREAM'] = '1:2'\n" + SCRIPTED
    file, _ = with_token(tmp_path)
    with started(["-c", script, *run_arguments(file)], tmp_path) as program:
        assert program.line_with("serving").startswith("<6>serving scripted at ws://127.0.0.1:")
        program.end(signal.SIGTERM)


def test_a_metrics_token_that_keeps_nobody_out_starts_nothing(tmp_path: Path) -> None:
    file, _ = with_token(tmp_path)
    empty = tmp_path / "metrics-token"
    empty.touch(0o600)
    code, _, errors = run(
        ["-c", SCRIPTED, *run_arguments(file), "--set", f"server.metrics_token_file={empty}"]
    )
    assert 78 == code
    assert errors.startswith(f"{empty}: holds no key")


def test_settings_are_checked_before_anything_is_loaded(tmp_path: Path) -> None:
    code, _, errors = run(["-c", REAL, "run", "--set", "server.port=x", "--set", "a.b=1"])
    assert 78 == code
    assert [
        "command line: a.b: unknown key",
        'command line: server.port = "x": must be a whole number, from 0 to 65535',
        "2 problems. Nothing was started.",
    ] == errors.splitlines()


def test_the_version_is_that_of_the_package() -> None:
    result = invoke("--version")
    assert 0 == result.exit_code
    assert result.stdout.endswith(f"version {version('goodspeed')}\n")


# --- reload ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("needs_signal", [True, False])
def test_a_verifier_forgets_a_revoked_token_by_itself_and_at_a_hangup(
    needs_signal: bool, tmp_path: Path
) -> None:
    file, token = with_token(tmp_path)
    option = ("--tokens-file", file)

    async def scene(port: int, program: Program) -> Error:
        service = scripted_service()
        server = make_server(service, {})
        verifier = Verifier(service, server, port, {"kitchen": token})
        async with raw_board(verifier, "kitchen") as board:
            invoke("token", "revoke", "kitchen", *option)
            if needs_signal:
                program.send(signal.SIGHUP)
            error = await board.error()
            await board.ended()
        return error

    with started(["-c", SCRIPTED, *run_arguments(file)], tmp_path) as program:
        port = int(program.line_with("serving").split("ws://127.0.0.1:")[1].split()[0])
        error = asyncio.run(scene(port, program))
        if needs_signal:
            program.line_with("settings were read again")
    assert Error(ErrorCode.REVOKED, "this device's token was revoked") == error


def test_a_reload_that_is_wrong_changes_nothing_and_says_why(tmp_path: Path) -> None:
    tokens, _ = with_token(tmp_path)
    settings = tmp_path / "verifier.toml"
    settings.write_text(f'[server]\nport = 0\ntokens_file = "{tokens}"\n')
    arguments = ["-c", SCRIPTED, "run", "--config", str(settings)]
    with started(arguments, tmp_path) as program:
        program.line_with("serving")
        settings.write_text(settings.read_text() + 'heartbeat_seconds = 2\n[log]\nlevel = "loud"\n')
        program.send(signal.SIGHUP)
        assert f"{settings}:6: log.level = " in program.line_with("log.level")
        program.line_with("settings stay as they were: 1 wrong")
        taken_over = "[limits]\nmax_tokens = 100\n[rounds]\npolicy = 'greedy'\n"
        settings.write_text(settings.read_text().replace("loud", "debug") + taken_over)
        program.send(signal.SIGHUP)
        line = program.line_with("has changed")
        assert "server.heartbeat_seconds has changed" in line
        assert line.endswith("that takes effect at the next start")
        program.line_with("settings were read again")
        assert 1 == sum("has changed" in line for line in program.lines)
        assert 0 == program.end(signal.SIGTERM)[0]
