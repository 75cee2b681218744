"""`goodspeed-agent doctor` as a person types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_agent.cli import main
from tests.support.models.real_models import real_model
from tests.support.models.tiny_gguf import write_tiny_llama
from tests.support.programs.ports import free_port
from tests.support.programs.programs import Programs
from tests.support.programs.this_machine import needs_own_processor


@needs_own_processor
def test_without_model_and_verifier_every_problem_is_a_sentence(tmp_path: Path) -> None:
    options = [f"--set={s}" for s in ("verifier.url=ws://127.0.0.1:1", f"api.port={free_port()}")]
    environment = {"GOODSPEED_MODEL_DIR": str(tmp_path)}
    result = CliRunner(env=environment).invoke(main, ["doctor", "--json", *options])
    assert 2 == result.exit_code
    report = json.loads(result.stdout)
    assert 2 == report["exit_code"]
    problems = {f["subject"]: f for f in report["findings"] if f["level"] == "problem"}
    assert {"model", "verifier"} == problems.keys()
    assert "goodspeed-agent model pull smollm2-135m-instruct" == problems["model"]["remedy"]
    assert "Traceback" not in result.stderr


def test_llama_is_loaded_as_run_loads_it() -> None:
    """Its threads read the limit when the library is loaded; without it two are slower than one."""
    script = (
        "import builtins, os, sys\n"
        "real = builtins.__import__\n"
        "def watch(name, *rest):\n"
        "    if name == 'llama_cpp' and name not in sys.modules:\n"
        "        print('GOMP_SPINCOUNT' in os.environ, file=sys.stderr)\n"
        "    return real(name, *rest)\n"
        "builtins.__import__ = watch\n"
        "from edge_agent.cli import main\n"
        "main(['doctor', '--set', 'verifier.url=ws://127.0.0.1:1', '--set', 'draft.model=./none'])"
    )
    environment = {k: v for k, v in os.environ.items() if k != "GOMP_SPINCOUNT"}
    ran = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60
    )
    assert "True" == ran.stderr.splitlines()[0]


def test_wrong_settings_end_it_as_everywhere() -> None:
    result = CliRunner().invoke(main, ["doctor", "--set", "draft.threads=-1"])
    assert 78 == result.exit_code
    assert "draft.threads = -1" in result.stderr


@pytest.mark.slow
def test_the_real_model_at_a_real_verifier(tmp_path: Path) -> None:
    real_model()
    with Programs(tmp_path) as programs:
        token_file = programs.token_file("kitchen")
        verifier = programs.verifier()
        verifier.start()
        verifier.wait_until_ready()
        settings = (
            f"verifier.url=ws://127.0.0.1:{verifier.port}",
            f"verifier.token_file={token_file}",
            f"api.port={free_port()}",
        )
        options = [f"--set={setting}" for setting in settings]
        result = CliRunner().invoke(main, ["doctor", "--json", *options])
    found = {f["subject"]: f for f in json.loads(result.stdout)["findings"]}
    assert result.exit_code < 2, result.stdout
    assert "shares 49152 ids" in found["verifier"]["sentence"]
    assert "tokens/s with drafts" in found["pays"]["sentence"], result.stdout
    assert "its sha256 is right" in found["model"]["sentence"]


@needs_own_processor
def test_what_was_measured_is_written_on_request(tmp_path: Path) -> None:
    model, file = tmp_path / "tiny.gguf", tmp_path / "d" / "50-measured.toml"
    write_tiny_llama(model)
    settings = ("verifier.url=ws://127.0.0.1:1", f"draft.model={model}", f"api.port={free_port()}")
    options = [f"--set={setting}" for setting in (*settings, "draft.context_tokens=128")]
    result = CliRunner().invoke(main, ["doctor", *options])
    assert not file.exists()
    result = CliRunner().invoke(main, ["doctor", f"--write={file}", *options])
    assert 2 == result.exit_code, "the verifier's absence stays a problem"
    assert "\n+threads = " in result.stdout
    assert result.stdout.endswith(f"wrote {file}; it counts from the agent's next start\n")
    threads = tomllib.loads(file.read_text())["draft"]["threads"]
    checked = CliRunner().invoke(main, ["config", "show", "--config", str(file), *options[1:]])
    assert f"threads = {threads}" in checked.output


def test_nothing_is_written_where_nothing_was_measured(tmp_path: Path) -> None:
    file = tmp_path / "measured.toml"
    file.write_text("[draft]\nthreads = 3\n")
    options = ("--set=verifier.url=ws://127.0.0.1:1", "--set=draft.model=./none", "--json")
    result = CliRunner().invoke(main, ["doctor", f"--write={file}", *options])
    assert 2 == result.exit_code
    assert f"error: no speed was measured, so {file} is as it was\n" in result.stderr
    assert "[draft]\nthreads = 3\n" == file.read_text()
