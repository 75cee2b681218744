"""`goodspeed-agent` as a person or a service manager runs it."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge_agent.cli import main
from tests.support.models.tiny_gguf import write_tiny_llama
from tests.support.programs.command import run
from tests.support.programs.program import Program

PROGRAM = "import sys; from edge_agent.cli import main; main(sys.argv[1:])"
TOKEN = f"gsd_kitchen_{'A' * 43}"


def invoke(*arguments: str | Path, **environment: str) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], env=environment)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    write_tiny_llama(path)
    return path


def run_arguments(model: Path, **settings: object) -> list[str]:
    chosen = {
        "verifier.url": "ws://127.0.0.1:1",  # nobody listens there
        "verifier.token": TOKEN,
        "draft.model": model,
        "draft.context_tokens": 128,
        "api.port": 0,
    } | {key.replace("__", "."): value for key, value in settings.items()}
    assignments = [("--set", f"{key}={value}") for key, value in chosen.items() if value != ""]
    return ["-c", PROGRAM, "run", *(word for pair in assignments for word in pair)]


def test_a_board_imports_no_library_that_takes_long_before_its_first_line() -> None:
    script = (
        "import sys\n"
        "import edge_agent.cli, edge_agent.commands.run\n"
        "late = {'rich', 'prompt_toolkit', 'numpy', 'aiohttp', 'llama_cpp'}\n"
        "print(sorted(late & sys.modules.keys()))\n"
    )
    assert (0, "[]\n", "") == run(["-c", script])


def test_an_agent_that_runs_imports_no_numpy_and_no_library_of_the_terminal() -> None:
    script = (
        "import sys\n"
        "import edge_agent.commands.running_agent, edge_agent.models.assigned\n"
        "import edge_agent.generation.queued_generator, edge_agent.link.vocabulary_fetch\n"
        "print(sorted({'rich', 'prompt_toolkit', 'numpy'} & sys.modules.keys()))\n"
    )
    assert (0, "[]\n", "") == run(["-c", script])


_DRAFTS_NGRAMS = """
import sys
from edge_agent.drafting.drafter_choice import DrafterChoice
from edge_agent.drafting.settings import DraftSettings
from edge_agent.drafting.stream import AgentStream
from shared.protocol.codec import encode
from shared.protocol.messages import Opened, Verdict
from shared.protocol.token_ids import pack_token_ids
from shared.speculation.sampling import SamplingParameters

prompt = pack_token_ids([1, 2, 3, 4, 5, 6, 7, 70_000, 8, 1, 2, 3])
for temperature, mode in ((0.0, "coupled"), (0.8, "coupled"), (0.8, "rejection")):
    settings = DraftSettings(row_entries=32, confidence_stop=0.0, prefill_chunk_tokens=64,
                             context_tokens=512, ngram_tokens=4, has_model=False)
    stream = AgentStream(1, 100_000, settings, SamplingParameters(temperature), drafts=True)
    stream.drafter_choice = DrafterChoice(4)
    stream.leave_slot()
    stream.start(Opened(1, prompt, 0, mode, num_prompt_tokens=12))
    assert stream.take_ready_without_model()
    said = pack_token_ids([4])
    stream.commit_verdict(Verdict(1, 0, 0, said, draft_length=3, window=4), 0.0)
    (draft,) = stream.take_due_drafts()
    assert encode(draft)
print("numpy" in sys.modules)
"""


def test_a_board_without_a_model_drafts_without_numpy() -> None:
    assert (0, "False\n", "") == run(["-c", _DRAFTS_NGRAMS])


# --- settings -------------------------------------------------------------------------------------


def test_config_check_reports_every_problem_at_once(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('[verifier]\nurl = "http://here"\n[draft]\nthread = 2\nmax_streams = 0\n')
    result = invoke("config", "check", "--config", file)
    assert 78 == result.exit_code
    assert [
        f'{file}:2: verifier.url = "http://here": must be ws:// or wss://, a host and perhaps '
        "a port",
        f"{file}:4: draft.thread: unknown key (did you mean draft.threads?)",
        f"{file}:5: draft.max_streams = 0: must be from 1 to 64",
        "3 problems. Nothing was started.",
    ] == result.stderr.splitlines()


def test_config_check_says_when_all_is_well(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(invoke("config", "init").stdout)
    result = invoke("config", "check", "--config", file)
    assert (0, "all settings are right\n") == (result.exit_code, result.stdout)


def test_config_show_covers_the_token(tmp_path: Path) -> None:
    result = invoke("config", "show", GOODSPEED__VERIFIER__TOKEN=TOKEN)
    assert 0 == result.exit_code
    assert TOKEN not in result.output
    assert 'token = "…"  # environment GOODSPEED__VERIFIER__TOKEN' in result.stdout


def test_the_version_is_that_of_the_package() -> None:
    assert invoke("--version").stdout.endswith(f"version {version('goodspeed')}\n")


# --- run ------------------------------------------------------------------------------------------


def started(arguments: Sequence[str], directory: Path) -> Program:
    return Program("agent", [sys.executable, *arguments], directory / "log")


def test_run_without_a_token_starts_nothing(tmp_path: Path) -> None:
    code, _, errors = run(run_arguments(tmp_path / "model.gguf", verifier__token=""))
    assert 78 == code
    assert [
        "verifier.token_file: must be set; `goodspeed-verifier token add` makes a token",
        "1 problem. Nothing was started.",
    ] == errors.splitlines()


def test_run_with_a_token_that_everyone_can_read_starts_nothing(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o644)
    arguments = run_arguments(tmp_path / "m.gguf", verifier__token="", verifier__token_file=file)
    code, _, errors = run(arguments)
    assert 78 == code
    assert "chmod 640 mends it" in errors
    assert TOKEN not in errors


@pytest.mark.parametrize("key", ["", "\n", "short", "two words of a key"])
def test_run_with_an_api_key_that_keeps_nobody_out_starts_nothing(tmp_path: Path, key: str) -> None:
    file = tmp_path / "key"
    file.write_text(key)
    file.chmod(0o600)
    settings = {"api__host": "0.0.0.0", "api__token_file": file}
    code, _, errors = run(run_arguments(tmp_path / "m.gguf", **settings))
    assert 78 == code
    assert errors.startswith(f"{file}: ")
    assert "openssl rand -hex 32" in errors


def test_run_without_the_model_is_one_sentence(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    code, _, errors = run(run_arguments(model))
    assert 2 == code
    assert [f"error: there is no model at {model}"] == errors.splitlines()[1:]


def test_run_on_a_port_in_use_is_one_sentence(model: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, _, errors = run(run_arguments(model, api__port=port))
    assert 2 == code
    *_, line = errors.splitlines()
    assert line.startswith("error: ")
    assert "Address already in use" in line
    assert str(port) in line


def test_without_a_model_a_port_in_use_is_told_before_the_verifier_is_awaited(
    tmp_path: Path,
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        arguments = run_arguments(tmp_path / "none", api__port=port)
        code, _, errors = run([*arguments, "--set", "draft.model="])
    assert 2 == code
    *_, line = errors.splitlines()
    assert f"Address already in use: 127.0.0.1, port {port}" in line
    assert "vocabulary" not in errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_running_agent_well(
    model: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with started(run_arguments(model), tmp_path) as program:
        serving = program.line_with("API at http://127.0.0.1:")
        program.line_with("cannot reach the verifier at ws://127.0.0.1:1")
        assert (503, True) == completion_from(int(serving.rpartition(":")[2]))
        code, seconds = program.end(number)
    assert 0 == code, program.lines
    assert seconds < 5
    assert program.lines[-1].endswith("stopped")
    assert_warned_once(program)


def completion_from(port: int) -> tuple[int, bool]:
    """Status, and whether the answer says that the verifier cannot be reached."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    body = json.dumps({"model": "any", "prompt": "hello"})
    connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, "cannot reach the verifier" in text


def assert_warned_once(program: Program) -> None:
    assert 1 == sum("WARNING" in line for line in program.lines), program.lines


# --- without a model ------------------------------------------------------------------------------


def test_a_board_without_a_model_asks_the_verifier_what_tokens_mean(tmp_path: Path) -> None:
    arguments = run_arguments(tmp_path / "unused")
    arguments[arguments.index(f"draft.model={tmp_path / 'unused'}")] = "draft.model="
    with started(arguments, tmp_path) as program:
        line = program.line_with("no vocabulary yet")
        _, seconds = program.end(signal.SIGTERM)
    assert "cannot reach the verifier at ws://127.0.0.1:1" in line
    assert seconds < 5


def test_the_help_tells_of_boards_without_a_model() -> None:
    assert "--set draft.model= " in invoke("--help").stdout
