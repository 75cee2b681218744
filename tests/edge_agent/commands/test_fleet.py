"""`goodspeed-agent fleet` as a person runs it."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edge_agent.cli import main
from edge_agent.commands.fleet import allow_open_files, draft_with
from edge_agent.drafting.draw_spec import DrawSpec
from edge_agent.fleet.workload import FleetLoad
from shared.errors import ConfigError
from shared.speculation.sampling import GREEDY
from shared.speculation.scripted_model import ScriptedModel, scripted_token_bytes
from tests.support.ends.loopback import running_verifier
from tests.support.ends.scripted import scripted_service
from tests.support.ends.waiting import eventually
from tests.support.programs.command import ROOT, environment

TOKENS = [f"gsd_load-{i}_{'A' * 43}" for i in range(3)]
NOBODY = "ws://127.0.0.1:1"
GREEDY_SPEC = DrawSpec(
    mode="coupled",
    sampling=GREEDY,
    seed=1,
    position=0,
    vocab_size=64,
    is_guess=False,
    row_entries=32,
    confidence_stop=0.0,
)
PROGRAM = "import sys; from edge_agent.cli import main; main(sys.argv[1:])"


def tokens_file(tmp_path: Path, *lines: str) -> Path:
    file = tmp_path / "fleet-tokens"
    file.touch(0o600)
    file.write_text("\n".join(lines) + "\n")
    return file


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["fleet", *(str(argument) for argument in arguments)])


def fleet(file: Path, *more: str, url: str = NOBODY) -> Result:
    return invoke("--verifier", url, "--tokens", file, *more)


def test_help_says_how_to_make_tokens() -> None:
    text = invoke("--help").stdout
    assert "goodspeed-verifier token add load --count 100 --tokens-file tokens" in text
    assert "server.max_connections" in text


def test_without_a_file_of_tokens_nothing_is_started(tmp_path: Path) -> None:
    result = fleet(tmp_path / "none")
    assert 78 == result.exit_code
    assert "none: cannot be read: No such file or directory" in result.stderr


def test_every_wrong_token_is_named_by_its_line_and_not_shown(tmp_path: Path) -> None:
    file = tokens_file(tmp_path, TOKENS[0], "secret", TOKENS[0])
    result = fleet(file)
    assert 78 == result.exit_code
    assert [
        f"{file}:2: must be a token, gsd_…",
        f"{file}:3: device load-0 has a token already",
        "2 problems. Nothing was started.",
    ] == result.stderr.splitlines()
    assert "secret" not in result.output


def test_more_boards_than_tokens_are_refused(tmp_path: Path) -> None:
    file = tokens_file(tmp_path, *TOKENS)
    result = fleet(file, "--boards", "4")
    assert f"{file}: 3 tokens are too few for 4 boards" in result.stderr
    assert 78 == result.exit_code


def test_an_empty_file_of_tokens_is_refused(tmp_path: Path) -> None:
    file = tokens_file(tmp_path)
    assert f"{file}: 0 tokens are too few for 1 boards" in fleet(file).stderr


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://host", "must be ws:// or wss://, a host and perhaps a port"),
        ("ws://1.2.3.4", "must be wss:// for a host that is not on a private network"),
    ],
)
def test_a_verifier_that_no_board_would_take_is_refused(
    tmp_path: Path, url: str, sentence: str
) -> None:
    result = fleet(tokens_file(tmp_path, *TOKENS), url=url)
    assert 78 == result.exit_code
    assert f"--verifier {url}: {sentence}" in result.stderr


@pytest.mark.parametrize(
    "option", [("--streams", "0"), ("--draft-speed", "0"), ("--disagreement", "1.5")]
)
def test_a_setting_out_of_range_is_named(tmp_path: Path, option: tuple[str, str]) -> None:
    result = fleet(tokens_file(tmp_path, *TOKENS), *option)
    assert 2 == result.exit_code
    assert f"Invalid value for '{option[0]}'" in result.stderr


@pytest.mark.parametrize(
    ("token_bytes", "is_scripted"),
    [(scripted_token_bytes(64), True), ((b"a", b"b", b"c"), False)],
)
def test_boards_draft_with_the_scripted_model_where_the_target_is_one(
    token_bytes: tuple[bytes, ...], is_scripted: bool
) -> None:
    guess = draft_with(token_bytes, FleetLoad(), 0.0, model_seed=7)
    drawn = {drawn.token_id for _ in range(50) if (drawn := guess([1, 2], GREEDY_SPEC))}
    said = {int(np.argmax(ScriptedModel(64, 7).logits([1, 2])))}
    assert (said if is_scripted else {1, 2}) == drawn


def test_where_nobody_listens_there_is_one_sentence(tmp_path: Path) -> None:
    result = fleet(tokens_file(tmp_path, *TOKENS))
    assert 2 == result.exit_code
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: cannot reach the verifier at {NOBODY}: ")


def test_a_process_may_open_as_many_files_as_it_needs() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = before
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        allow_open_files(600)
        assert (600, hard) == resource.getrlimit(resource.RLIMIT_NOFILE)
        allow_open_files(10)
        assert (600, hard) == resource.getrlimit(resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_more_files_than_the_machine_allows_are_refused() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        pytest.skip("this machine has no limit")
    with pytest.raises(ConfigError, match=f"{hard + 1} open files exceed the {hard} allowed"):
        allow_open_files(hard + 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_what_was_measured(tmp_path: Path, number: signal.Signals) -> None:
    async def run() -> tuple[int | None, str, str]:
        service = scripted_service(delay_seconds=lambda _: 0.002)
        async with running_verifier(service, ["load-0", "load-1"]) as verifier:
            file = tokens_file(tmp_path, *verifier.tokens.values())
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", PROGRAM, "fleet", "--verifier", verifier.url),
                *("--tokens", str(file), "--json", "--ramp-up", "0", "--draft-speed", "500"),
                cwd=ROOT,
                env=environment(),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            await eventually(lambda: len(service.planner.streams) == 2)
            process.send_signal(number)
            out, errors = await process.communicate()
            await eventually(lambda: not service.planner.streams)  # they said Goodbye
            return process.returncode, out.decode(), errors.decode()

    code, out, errors = asyncio.run(run())
    assert 0 == code, errors
    figures = json.loads(out)
    assert (2, 2, {}) == (figures["num_boards"], figures["num_connected"], figures["errors"])
    assert "Traceback" not in errors
