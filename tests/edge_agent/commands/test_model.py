"""`goodspeed-agent model …` as a person types it."""

from __future__ import annotations

import re
from pathlib import Path

import gguf
import numpy as np
import pytest
from click.testing import CliRunner, Result

from edge_agent.commands.model import model
from edge_agent.models.cache import cached_models
from edge_agent.models.presets import DEFAULT_MODEL
from shared.errors import ModelError
from shared.protocol.held_out_texts import HeldOutTexts, TargetRow, pack_texts, text_of
from tests.support.models.real_models import real_model
from tests.support.models.tiny_gguf import TINY_VOCAB_SIZE, write_tiny_llama


def run(*arguments: str, cache_dir: Path | None = None) -> Result:
    environment = {} if cache_dir is None else {"GOODSPEED_MODEL_DIR": str(cache_dir)}
    return CliRunner(env=environment).invoke(model, arguments)


def test_ls_tells_what_can_be_pulled(tmp_path: Path) -> None:
    result = run("ls", cache_dir=tmp_path)
    assert [
        "gemma-3-270m-it             gemma  not pulled (292 MB), drafts for Gemma-3 4B to 27B",
        "llama-3.2-1b-instruct       llama3.2  not pulled (808 MB), drafts for Llama-3.1 8B and "
        "70B, Llama-3.2 3B, Llama-3.3 70B",
        "qwen3-0.6b                  Apache-2.0  not pulled (429 MB), drafts for Qwen3 4B to 32B",
        "smollm2-135m-instruct       Apache-2.0  not pulled (98 MB)",
        "smollm2-135m-instruct-q2_k  Apache-2.0  not pulled (88 MB)",
        "smollm2-135m-instruct-q4_0  Apache-2.0  not pulled (92 MB)",
        "smollm2-18m                 Apache-2.0  not pulled (12 MB), drafts for "
        "SmolLM2-135M-Instruct",
    ] == result.output.splitlines()


def test_ls_tells_what_is_here() -> None:
    real_model()
    lines = run("ls").output.splitlines()
    assert any(line.split() == [DEFAULT_MODEL, "Apache-2.0", "98", "MB", "Q4_1"] for line in lines)


def licensed(writer: gguf.GGUFWriter) -> None:
    writer.add_license("mit")


def test_ls_tells_of_models_that_are_not_known_by_name(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "mine.gguf", edit=licensed)
    write_tiny_llama(tmp_path / "other.gguf")
    write_tiny_llama(tmp_path / "cut.gguf")
    (tmp_path / "cut.gguf").write_bytes((tmp_path / "cut.gguf").read_bytes()[:-1])
    lines = run("ls", cache_dir=tmp_path).output.splitlines()
    told = {line.split()[0]: " ".join(line.split()[1:]) for line in lines}
    assert "mit 0 MB all F32" == told["mine"]
    assert "licence not told 0 MB all F32" == told["other"]
    assert "licence not told 0 MB, not whole: model verify" == told["cut"]


def test_rm_asks_first(tmp_path: Path) -> None:
    path = tmp_path / "mine.gguf"
    path.write_bytes(b"GGUF")
    environment = {"GOODSPEED_MODEL_DIR": str(tmp_path)}
    refused = CliRunner(env=environment).invoke(model, ["rm", "mine"], input="n\n")
    assert (0, "") == (refused.exit_code, refused.stdout)
    assert path.exists()
    agreed = CliRunner(env=environment).invoke(model, ["rm", "mine"], input="y\n")
    assert f"deleted {path}\n" == agreed.stdout
    assert not path.exists()


def test_rm_takes_the_checksum_along(tmp_path: Path) -> None:
    for name in ("mine.gguf", "mine.gguf.sha256", "other.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    assert 0 == run("rm", "--yes", "mine", cache_dir=tmp_path).exit_code
    assert ["other.gguf"] == [path.name for path in cached_models(tmp_path)]
    assert not (tmp_path / "mine.gguf.sha256").exists()


@pytest.mark.parametrize("name", ["none", "../mine", "./mine"])
def test_rm_deletes_nothing_but_models_of_the_cache(name: str, tmp_path: Path) -> None:
    cache_dir = tmp_path / "cache"
    cache_dir.mkdir()
    (tmp_path / "mine.gguf").touch()
    (cache_dir / "here.gguf").touch()
    error = run("rm", "--yes", "here", name, cache_dir=cache_dir).exception
    assert isinstance(error, ModelError)
    assert str(error).endswith(": goodspeed-agent model ls")
    assert (tmp_path / "mine.gguf").exists()
    assert (cache_dir / "here.gguf").exists(), "all of them or none"


def test_verify_of_a_model_without_a_checksum_looks_whether_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "mine.gguf"
    write_tiny_llama(path)
    result = run("verify", cache_dir=tmp_path)
    assert f"ok {path} is whole; no sha256 of it is known\n" == result.output
    path.write_bytes(path.read_bytes()[:-1])
    error = run("verify", cache_dir=tmp_path).exception
    assert isinstance(error, ModelError)
    assert "is not whole" in str(error)


def test_verify_names_every_model_that_is_damaged(tmp_path: Path) -> None:
    (tmp_path / f"{DEFAULT_MODEL}.gguf").write_bytes(b"GGUF damaged")
    (tmp_path / "a.gguf").write_bytes(b"no model")
    write_tiny_llama(tmp_path / "whole.gguf")
    result = run("verify", cache_dir=tmp_path)
    assert f"ok {tmp_path / 'whole.gguf'}" in result.output
    assert "a.gguf is not a GGUF file; " in str(result.exception)
    assert f"{DEFAULT_MODEL}.gguf is damaged" in str(result.exception)


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


def test_quantise_makes_a_smaller_model_beside_the_first(tmp_path: Path) -> None:
    result = run("quantise", str(real_model()), "q3_k_m", "--name", "small", cache_dir=tmp_path)
    assert 0 == result.exit_code, result.output
    assert "quantising to Q3_K_M: 75 %" in result.stderr
    lines = run("ls", cache_dir=tmp_path).stdout.splitlines()
    (line,) = (line for line in lines if line.startswith("small "))
    assert "Q3_K" in line
    assert "ok" in run("verify", "small", cache_dir=tmp_path).output


def test_quantise_names_what_it_cannot_do(tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(real_model().read_bytes()[:1_000_000])
    before = tmp_path / "cut-q4_0.gguf"
    before.write_bytes(b"GGUF of before")
    with pytest.raises(ModelError, match=r"llama\.cpp cannot requantise"):
        CliRunner(env={"GOODSPEED_MODEL_DIR": str(tmp_path)}).invoke(
            model, ["quantise", str(cut), "Q4_0"], catch_exceptions=False
        )
    assert b"GGUF of before" == before.read_bytes()
    assert 2 == run("quantise", "cut", "Q9_9", cache_dir=tmp_path).exit_code


def test_judge_tells_what_a_target_would_accept(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "mine.gguf")
    row = TargetRow(np.array([3, 9], np.uint32), np.array([0.75, 0.25], np.float32))
    texts = (
        text_of("qa", "greedy", [1, 2], list(range(3, 15)), []),
        text_of("qa", "0.8", [1, 2], [3, 4], [row, row]),
        text_of("qa", "1", [1, 2], [3, 4], [row, row]),
    )
    packed = pack_texts(HeldOutTexts("target", TINY_VOCAB_SIZE, texts))
    (tmp_path / "some.texts").write_bytes(packed)
    result = run("judge", str(tmp_path / "mine.gguf"), "--texts", str(tmp_path / "some.texts"))
    assert 0 == result.exit_code, result.output
    assert 5 == result.output.count("accepted, ")
    assert re.search(r"^mine +0\.\d\d\d", result.output, re.MULTILINE)


def test_judge_refuses_what_holds_no_texts(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "mine.gguf")
    result = run("judge", str(tmp_path / "mine.gguf"), "--texts", str(tmp_path / "mine.gguf"))
    assert isinstance(result.exception, ModelError)
    assert "holds no texts of a target" in str(result.exception)
