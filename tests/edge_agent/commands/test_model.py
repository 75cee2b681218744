"""`goodspeed-agent model …` as a person types it."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from edge_agent.commands.model import model
from edge_agent.models.presets import DEFAULT_MODEL
from shared.errors import ModelError
from tests.support.models.real_models import real_model


def run(*arguments: str, cache_dir: Path | None = None) -> Result:
    environment = {} if cache_dir is None else {"GOODSPEED_MODEL_DIR": str(cache_dir)}
    return CliRunner(env=environment).invoke(model, arguments)


def test_ls_tells_what_can_be_pulled(tmp_path: Path) -> None:
    result = run("ls", cache_dir=tmp_path)
    assert [
        "smollm2-135m-instruct       Apache-2.0  not pulled (98 MB)",
        "smollm2-135m-instruct-q4_0  Apache-2.0  not pulled (92 MB)",
        "smollm2-135m-instruct-q2_k  Apache-2.0  not pulled (88 MB)",
    ] == result.output.splitlines()


def test_ls_tells_what_is_here() -> None:
    real_model()
    assert "smollm2-135m-instruct       Apache-2.0  98 MB" == run("ls").output.splitlines()[0]


def test_path_prints_the_path_alone() -> None:
    assert f"{real_model()}\n" == run("path").output


def test_path_of_a_missing_model_names_the_command(tmp_path: Path) -> None:
    error = run("path", cache_dir=tmp_path).exception
    assert isinstance(error, ModelError)
    assert str(error).endswith(f"nor in {tmp_path}: goodspeed-agent model pull {DEFAULT_MODEL}")


def test_pulling_what_is_here_only_verifies_it() -> None:
    path = real_model()
    result = run("pull")
    assert f"{path} 98 MB\n" == result.stdout
    assert "verifying sha256: 100 %" in result.stderr
    assert "downloading" not in result.stderr


def test_verify_checks_what_is_named() -> None:
    assert f"ok {real_model()}\n" == run("verify", DEFAULT_MODEL).output


def test_verify_checks_all_that_is_here() -> None:
    assert f"ok {real_model()}" in run("verify").output.splitlines()


def test_verify_refuses_a_damaged_model(tmp_path: Path) -> None:
    (tmp_path / f"{DEFAULT_MODEL}.gguf").write_bytes(b"GGUF damaged")
    error = run("verify", cache_dir=tmp_path).exception
    assert isinstance(error, ModelError)
    assert "is damaged" in str(error)


def test_verify_of_an_empty_cache_names_the_command(tmp_path: Path) -> None:
    error = run("verify", cache_dir=tmp_path).exception
    assert isinstance(error, ModelError)
    assert str(error).endswith(": goodspeed-agent model pull")
