"""`goodspeed-agent run` with a draft model that cannot be one: one sentence, and exit code 2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_agent.cli import main
from tests.support.models.tiny_gguf import write_tiny_llama

Make = Callable[[Path], Path]
"""Writes a model into an empty directory, and returns the path that is given as draft.model."""


def run(model: Path, *settings: str) -> tuple[int | None, list[str]]:
    """Exit code, and all that was said but the lines of the log."""
    token = f"verifier.token=gsd_kitchen_{'A' * 43}"
    given = ["verifier.url=ws://127.0.0.1:1", token, "api.port=0", f"draft.model={model}"]
    options = [f"--set={setting}" for setting in (*given, *settings)]
    result = CliRunner().invoke(main, ["run", *options])
    assert isinstance(result.exception, SystemExit | None), "a traceback"
    return result.exit_code, [line for line in result.stderr.splitlines() if " INFO " not in line]


def gguf_of(**wrong: object) -> Make:
    def make(directory: Path) -> Path:
        write_tiny_llama(directory / "tiny.gguf", **wrong)  # type: ignore[arg-type]
        return directory / "tiny.gguf"

    return make


def with_size(num_bytes: float) -> Make:
    """A file that is cut, or that promises more than it has."""

    def make(directory: Path) -> Path:
        path = gguf_of()(directory)
        with path.open("r+b") as file:
            file.truncate(int(num_bytes))
        return path

    return make


def part_of(number: int, *missing: int) -> Make:
    """A model in three parts, of which some are lost."""

    def make(directory: Path) -> Path:
        write_tiny_llama(directory / "tiny.gguf", tensors_per_part=8)
        paths = [directory / f"tiny-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
        for lost in missing:
            paths[lost - 1].unlink()
        return paths[number - 1]

    return make


def text_file(directory: Path) -> Path:
    path = directory / "list.gguf"
    path.write_text("This is a shopping list.\n")
    return path


LACKS = {
    "tensor": (gguf_of(without={"blk.1.ffn_up.weight"}), "blk.1.ffn_up.weight"),
    "vocabulary": (gguf_of(spare_tokens=1), "tensor 'token_embd.weight' has wrong shape"),
    "architecture": (gguf_of(architecture="perceptron"), "unknown model architecture"),
    "cut": (with_size(200_000), "tensor"),
    "cut-in-the-head": (with_size(200), "cannot load"),
    "empty": (with_size(0), "tiny.gguf is not a GGUF file"),
    "text": (text_file, "list.gguf is not a GGUF file"),
    "too-large": (with_size(2e12), "take 1862.6 GiB, "),
    "part-missing": (part_of(1, 2), "tiny-00002-of-00003.gguf: No such file or directory"),
    "second-part": (part_of(2), "cannot load"),
}


@pytest.mark.parametrize("case", LACKS)
def test_a_draft_model_that_cannot_be_one_is_one_sentence(case: str, tmp_path: Path) -> None:
    make, expected = LACKS[case]
    exit_code, lines = run(make(tmp_path))
    assert 2 == exit_code
    assert 1 == len(lines), lines
    assert lines[0].startswith("error: ")
    assert expected in lines[0]


def test_caches_that_main_memory_does_not_hold_are_one_sentence(tmp_path: Path) -> None:
    many = ("draft.context_tokens=1048576", "draft.max_streams=64")
    model = gguf_of(context_tokens=1 << 20)(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edge_agent.draft_model.llama_memory.free_main_memory", lambda: 8 << 30)
        exit_code, lines = run(model, *many)
    assert 2 == exit_code
    assert 1 == len(lines), lines
    # 2 layers × 2 heads × 16 values of keys and of values × 2 bytes for each token.
    assert "the caches of all slots take 16.0 GiB, 8.0 GiB of main memory are free" in lines[0]


def test_whatever_the_library_raises_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise LookupError("a symbol")

    monkeypatch.setattr("edge_agent.draft_model.llama_drafter.check_weight_memory", fail)
    model = gguf_of()(tmp_path)
    expected = f"error: cannot load {model} as a draft model: LookupError: a symbol"
    assert (2, [expected]) == run(model)
