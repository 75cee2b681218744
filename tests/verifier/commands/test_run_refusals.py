"""`goodspeed-verifier run` with a target that cannot be one: one sentence, and exit code 2."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import gguf
import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from tests.support.models.tiny_directory import write_tiny_directory
from tests.support.models.tiny_gguf import write_tiny_llama
from verifier.cli import main
from verifier.torch_target.loading import target_loading

Make = Callable[[Path], Path]
"""Writes a model into an empty directory, and returns the path that is given as target.model."""


def run(model: Path, tmp_path: Path, *settings: str) -> tuple[int | None, list[str]]:
    """Exit code, and all that was said but the lines of the log."""
    tokens = tmp_path / "tokens"
    CliRunner().invoke(main, ["token", "add", "kitchen", "--tokens-file", str(tokens)])
    given = ["server.port=0", "target.device=cpu", f"server.tokens_file={tokens}", *settings]
    options = [f"--set={setting}" for setting in (*given, f"target.model={model}")]
    result = CliRunner().invoke(main, ["run", *options])
    assert isinstance(result.exception, SystemExit | None), "a traceback"
    return result.exit_code, [line for line in result.stderr.splitlines() if " INFO " not in line]


def gguf_of(name: str = "tiny.gguf", **wrong: object) -> Make:
    def make(directory: Path) -> Path:
        write_tiny_llama(directory / name, **wrong)  # type: ignore[arg-type]
        return directory / name

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


def cut_gguf(part: float) -> Make:
    def make(directory: Path) -> Path:
        path = gguf_of()(directory)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(part * len(whole))])
        return path

    return make


def text_file(name: str) -> Make:
    def make(directory: Path) -> Path:
        path = directory / name
        path.write_text("This is a shopping list.\n")
        return path

    return make


def directory_with(change: Callable[[Path], None]) -> Make:
    def make(directory: Path) -> Path:
        write_tiny_directory(directory)
        change(directory)
        return directory

    return make


def without_tensor(directory: Path) -> None:
    path = directory / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, path, {"format": "pt"})


def with_tensor(directory: Path) -> None:
    path = directory / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.1.mlp.side_proj.weight"] = tensors["model.norm.weight"].clone()
    save_file(tensors, path, {"format": "pt"})


def with_index_to_nowhere(directory: Path) -> None:
    path = directory / "model.safetensors"
    names = dict.fromkeys(load_file(path), "model-00001-of-00002.safetensors")
    names["lm_head.weight"] = "model-00002-of-00002.safetensors"
    path.rename(directory / "model-00001-of-00002.safetensors")
    index = {"metadata": {"total_size": 1}, "weight_map": names}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def cut_in_the_middle(directory: Path) -> None:
    path = directory / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def config_with(**changes: object) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        path = directory / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def with_strange_decoder(directory: Path) -> None:
    path = directory / "tokenizer.json"
    decoder = {"type": "Replace", "pattern": {"Regex": "a+"}, "content": " "}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"decoder": decoder}))


def spoilt(name: str, text: str) -> Callable[[Path], None]:
    return lambda directory: (directory / name).write_text(text) and None


def a_strange_tensor(writer: gguf.GGUFWriter) -> None:
    writer.add_tensor("blk.1.attn_sinks.weight", np.ones(4, np.float32))


LACKS = {
    "gguf-tensor": (gguf_of(without={"blk.1.ffn_up.weight"}), "it has no blk.1.ffn_up.weight"),
    "gguf-tensors": (
        gguf_of(without={f"blk.{i}.ffn_{n}.weight" for i in (0, 1) for n in ("up", "down")}),
        "it has no blk.0.ffn_down.weight, blk.0.ffn_up.weight, blk.1.ffn_down.weight and 1 more",
    ),
    "gguf-strange-tensor": (
        gguf_of(edit=a_strange_tensor),
        "models of its type have no blk.1.attn_sinks.weight",
    ),
    "gguf-first-part": (
        part_of(1, 2, 3),
        "tiny-00001-of-00003.gguf is the first of 3 parts, and beside it there is no "
        "tiny-00002-of-00003.gguf and no tiny-00003-of-00003.gguf",
    ),
    "gguf-part-missing": (part_of(1, 2), "beside it there is no tiny-00002-of-00003.gguf"),
    "gguf-second-part": (
        part_of(2),
        "tiny-00002-of-00003.gguf is part 2 of 3: name the first one, tiny-00001-of-00003.gguf",
    ),
    "gguf-vocabulary": (
        gguf_of(spare_tokens=1),
        "its output.weight has the shape 304 × 64, and what it says of itself needs 305 × 64",
    ),
    "gguf-head-counts": (
        gguf_of(architecture="gemma4", kv_heads=[2, 1]),
        "its layers have different numbers of attention heads "
        "(gemma4.attention.head_count_kv: 1, 2)",
    ),
    "gguf-architecture": (
        gguf_of(architecture="rwkv7"),
        "GGUF model with architecture rwkv7 is not supported yet",
    ),
    "gguf-cut": (cut_gguf(0.5), "tiny.gguf is cut: it has "),
    "gguf-cut-in-the-head": (cut_gguf(0.001), "tiny.gguf is cut: it ends within its head"),
    "gguf-empty": (cut_gguf(0), "tiny.gguf is not a GGUF file"),
    "text-as-gguf": (text_file("list.gguf"), "list.gguf is not a GGUF file"),
    "text": (text_file("list.txt"), "list.txt is not a GGUF file"),
    "nothing": (lambda directory: directory, "cannot load"),
    "tensor": (directory_with(without_tensor), "it has no model.layers.1.mlp.up_proj.weight"),
    "strange-tensor": (
        directory_with(with_tensor),
        "models of its type have no model.layers.1.mlp.side_proj.weight",
    ),
    "shape": (
        directory_with(config_with(intermediate_size=40)),
        "its model.layers.0.mlp.down_proj.weight has the shape 32 × 48, "
        "and what it says of itself needs 32 × 40",
    ),
    "index": (directory_with(with_index_to_nowhere), "model-00002-of-00002.safetensors"),
    "cut": (directory_with(cut_in_the_middle), "model.safetensors is cut or broken: "),
    "architecture": (
        directory_with(config_with(model_type="perceptron")),
        "model type `perceptron`",
    ),
    "wrong-type": (directory_with(config_with(num_attention_heads="four")), "num_attention_heads"),
    "wrong-number": (directory_with(config_with(num_attention_heads=0)), "cannot "),
    "config": (directory_with(spoilt("config.json", "{")), "config.json"),
    "tokenizer": (directory_with(spoilt("tokenizer.json", "{}")), "cannot load"),
    "too-large": (
        directory_with(config_with(vocab_size=1 << 36)),
        "of main memory are free; take a smaller target.model",
    ),
}


@pytest.mark.parametrize("case", LACKS)
def test_a_target_that_cannot_be_one_is_one_sentence(case: str, tmp_path: Path) -> None:
    make, expected = LACKS[case]
    (tmp_path / "model").mkdir()
    exit_code, lines = run(make(tmp_path / "model"), tmp_path)
    assert 2 == exit_code
    assert 1 == len(lines), lines
    assert lines[0].startswith("error: ")
    assert expected in lines[0]


@pytest.mark.parametrize(
    ("model", "settings", "expected"),
    [
        (gguf_of(), ["target.chat_template=/no/such.jinja"], "/no/such.jinja: No such file"),
        (directory_with(with_strange_decoder), [], "the tokenizer replaces"),
    ],
)
def test_what_a_tokenizer_lacks_is_told_before_weights_are_read(
    model: Make, settings: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> NoReturn:
        raise AssertionError("weights were read")

    monkeypatch.setattr(target_loading, "read_model", read)
    (tmp_path / "model").mkdir()
    exit_code, lines = run(model(tmp_path / "model"), tmp_path, *settings)
    assert 2 == exit_code
    assert 1 == len(lines), lines
    assert expected in lines[0]


def test_a_cache_that_main_memory_does_not_hold_is_one_sentence(tmp_path: Path) -> None:
    model = gguf_of()(tmp_path)
    exit_code, lines = run(model, tmp_path, "target.kv_cache_tokens=1073741824")
    assert 2 == exit_code
    assert 1 == len(lines), lines
    assert "and its key/value cache 512.0 GiB" in lines[0]


def test_a_recording_that_is_there_is_named_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "evening.jsonl").write_text("mine")
    tokens = tmp_path / "tokens"
    CliRunner().invoke(main, ["token", "add", "kitchen", "--tokens-file", str(tokens)])
    options = ["--set=server.port=0", f"--set=server.tokens_file={tokens}"]
    recording = str(tmp_path / "evening.jsonl")
    result = CliRunner().invoke(main, ["run", *options, "--record", recording])
    assert 78 == result.exit_code
    assert f"--record: {recording} is there already; name another file" in result.stderr
    assert "loading" not in result.stderr
    assert "mine" == (tmp_path / "evening.jsonl").read_text()
