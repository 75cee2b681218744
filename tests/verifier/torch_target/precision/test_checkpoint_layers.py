"""Checkpoints of fewer bits as people have them: the text is that of their own numbers."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from torch import Tensor

from shared.errors import ModelError
from shared.speculation.sampling import GREEDY
from tests.support.models.architecture_texts import generated, prompts_of
from tests.support.models.architectures import ARCHITECTURES
from tests.support.models.drafted_streams import DraftedStreams
from tests.support.models.packed_checkpoints import (
    PACKINGS,
    Packing,
    change_config,
    packing_named,
    write_packed,
)
from tests.support.models.target_loading import load_on_cpu
from verifier.cli import main
from verifier.target.round import DraftCheck, Round, RoundItem
from verifier.torch_target.forward.torch_target import TorchTarget

NUM_TOKENS = 16
BY_NAME = {architecture.name: architecture for architecture in ARCHITECTURES}
QWEN2 = BY_NAME["Qwen2"]  # its projections have biases


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Products of so few numbers take threads longer to divide than to compute."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.mark.parametrize("packing", PACKINGS, ids=lambda packing: packing.name)
def test_greedy_text_is_that_of_the_widened_weights(packing: Packing, tmp_path: Path) -> None:
    assert_served(packing, tmp_path, "Qwen2")


@pytest.mark.parametrize("name", ["awq", "gptq, ordered", "int4", "fp8"])
@pytest.mark.parametrize("architecture", ["Phi-3", "Qwen3-MoE"])
def test_so_it_is_in_other_architectures(name: str, architecture: str, tmp_path: Path) -> None:
    """Phi-3 has projections that are one layer, and experts become one tensor."""
    assert_served(packing_named(name), tmp_path, architecture)


def test_a_checkpoint_in_several_files_is_read_whole(tmp_path: Path) -> None:
    model, _ = write_packed(packing_named("awq"), tmp_path, QWEN2)
    split(tmp_path)
    prompt = prompts_of(QWEN2)[0]
    expected = [generated(model, prompt, NUM_TOKENS)]
    target = load_on_cpu(tmp_path, context_tokens=128, kv_cache_tokens=2048).target
    assert expected == DraftedStreams(target, [prompt], expected, GREEDY, NUM_TOKENS).run(4)


def test_what_is_kept_and_what_is_widened_is_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_packed(packing_named("gptq"), tmp_path, BY_NAME["Qwen3-MoE"])
    caplog.set_level(logging.INFO, "verifier.torch_target.precision.checkpoint_layers")
    load_on_cpu(tmp_path, context_tokens=128, dtype="bfloat16")
    [line] = [r.getMessage() for r in caplog.records if r.name.endswith("checkpoint_layers")]
    assert (
        "8 linear layers keep the numbers of the files (gptq, 4 bits, float16 scales rounded to "
        "bfloat16); 24 widened to bfloat16, as experts and logits have no product of fewer bits"
    ) == line


def test_in_bfloat16_the_logits_are_near_those_of_the_widened_weights(tmp_path: Path) -> None:
    """The layers that keep their numbers are served, not only multiplied."""
    model, _ = write_packed(packing_named("gptq, ordered"), tmp_path, QWEN2)
    token_ids = prompts_of(QWEN2)[0]
    placed = load_on_cpu(tmp_path, context_tokens=128, dtype="bfloat16")
    actual = last_logits(placed.target, token_ids)
    with torch.inference_mode():
        expected = model(torch.tensor([token_ids])).logits[0, -1]
        rounded = model.bfloat16()(torch.tensor([token_ids])).logits[0, -1].float()
    error = (actual - expected).norm()
    assert error < 2 * (rounded - expected).norm()


def last_logits(target: TorchTarget, token_ids: list[int]) -> Tensor:
    check = DraftCheck((), (), "coupled", GREEDY, seed=0, position=0, draws_bonus=True)
    blocks = tuple(range(-(-len(token_ids) // target.block_tokens)))
    return target.logits(Round((RoundItem(0, tuple(token_ids), 0, blocks, check),)))[-1].float()


def split(directory: Path) -> None:
    """As large checkpoints come: an index and two files, with a layer's tensors in both."""
    tensors = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    names = [f"model-{i}-of-00002.safetensors" for i in ("00001", "00002")]
    places = {name: names[i % 2] for i, name in enumerate(tensors)}
    for file in names:
        save_file({n: tensors[n] for n in tensors if places[n] == file}, directory / file)
    index = {"metadata": {}, "weight_map": places}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


UP = "model.layers.0.mlp.up_proj"


def without(part: str) -> Callable[[Path], None]:
    return changed(part, lambda tensor: None)


def changed(part: str, change: Callable[[Tensor], Tensor | None]) -> Callable[[Path], None]:
    def spoil(directory: Path) -> None:
        path = directory / "model.safetensors"
        tensors = load_file(path)
        tensor = change(tensors.pop(f"{UP}.{part}"))
        if tensor is not None:
            tensors[f"{UP}.{part}"] = tensor.contiguous()
        save_file(tensors, path, metadata={"format": "pt"})

    return spoil


def said(**fields: Any) -> Callable[[Path], None]:
    def spoil(directory: Path) -> None:
        known = json.loads((directory / "config.json").read_text())["quantization_config"]
        change_config(directory, quantization_config={**known, **fields})

    return spoil


def cut(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def without_second_file(directory: Path) -> None:
    split(directory)
    (directory / "model-00002-of-00002.safetensors").unlink()


def without_files(directory: Path) -> None:
    (directory / "model.safetensors").unlink()


def with_a_broken_index(directory: Path) -> None:
    (directory / "model.safetensors.index.json").write_text("{}")


REFUSED: list[tuple[str, Callable[[Path], None], str]] = [
    ("awq", without("qzeros"), f"it has no {UP}.qzeros"),
    ("awq", without("qweight"), f"it has no {UP}.qweight"),
    ("awq", without("scales"), f"it has no {UP}.scales"),
    ("gptq", without("qzeros"), f"it has no {UP}.qzeros"),
    ("gptq, ordered", without("g_idx"), f"it has no {UP}.g_idx"),
    ("int4", without("weight_shape"), f"it has no {UP}.weight_shape"),
    ("int4, zero points", without("weight_zero_point"), f"it has no {UP}.weight_zero_point"),
    ("int8", without("weight"), f"it has no {UP}.weight"),
    (
        "fp8",
        without("weight_scale"),
        f"its {UP}.weight is float8_e4m3fn, and no scale belongs to it",
    ),
    ("awq", changed("scales", lambda t: t[:1]), f"{UP}.scales has the shape 1 × 96"),
    ("awq", changed("qzeros", lambda t: t[:, 1:]), f"{UP}.qzeros has the shape 2 × 11"),
    ("awq", changed("qweight", lambda t: t.float()), f"{UP}.qweight is float32, not int32"),
    ("awq", changed("qweight", lambda t: t.flatten()), f"{UP}.qweight has the shape 768"),
    ("gptq", changed("g_idx", lambda t: t[1:]), f"{UP}.g_idx has the shape 63"),
    (
        "gptq, ordered",
        changed("g_idx", lambda t: t * 0),
        f"{UP}.g_idx does not name each of 2 groups 32 times",
    ),
    ("gptq", changed("g_idx", lambda t: t - 7), f"{UP}.g_idx does not name each of 2 groups"),
    ("int4", changed("weight_shape", lambda t: t + 8), f"{UP}.weight_packed has the shape 96 × 8"),
    ("int4", changed("weight_shape", lambda t: -t), "needs -96 × -8"),
    ("gptq", said(bits=3), "quantization_config.bits is 3, which is not 4 or 8"),
    ("awq", said(bits=8), "quantization_config.bits is 8, which is not 4"),
    ("awq", said(version="gemv"), "quantization_config.version is gemv, which is not gemm"),
    (
        "awq",
        said(quant_method="quip"),
        "quantization_config.quant_method is quip, which is not awq",
    ),
    (
        "awq",
        said(group_size=48),
        "qzeros has the shape 3 × 8, and what it says of itself needs 2 × 8",
    ),
    ("awq", said(group_size=64), "group_size is 64, which does not divide the 96 inputs of model"),
    ("awq", said(quant_method="gptq"), "_proj.qzeros has the shape"),
    ("int4", said(quant_method="awq", bits=4, group_size=32), "says awq, 4 bits, but no tensor"),
    ("awq", cut, "model.safetensors is cut or broken"),
    ("awq", without_second_file, "model-00002-of-00002.safetensors is not there"),
    ("awq", without_files, "model.safetensors is not there"),
    ("awq", with_a_broken_index, "model.safetensors.index.json is no list of tensors"),
]


@pytest.mark.parametrize(
    ("name", "spoil", "reason"),
    REFUSED,
    ids=lambda value: value[:60] if isinstance(value, str) else None,
)
def test_a_bad_checkpoint_is_one_sentence(
    name: str, spoil: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    write_packed(packing_named(name), tmp_path, QWEN2)
    spoil(tmp_path)
    with pytest.raises(ModelError) as raised:
        load_on_cpu(tmp_path, context_tokens=128)
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_layer_of_other_sizes_than_the_models_is_named(tmp_path: Path) -> None:
    write_packed(packing_named("awq"), tmp_path, QWEN2)
    change_config(tmp_path, intermediate_size=128)
    with pytest.raises(ModelError, match=r"its model\.layers\.0\.mlp\..* what it says of itself"):
        load_on_cpu(tmp_path, context_tokens=128)


def test_weights_are_not_quantised_twice(tmp_path: Path) -> None:
    write_packed(packing_named("awq"), tmp_path, QWEN2)
    with pytest.raises(ModelError) as raised:
        load_on_cpu(tmp_path, quantisation="int8")
    assert (
        f"target.quantisation is int8, but the weights of {tmp_path} have fewer bits already "
        "(awq, 4 bits); set target.quantisation = none"
    ) == str(raised.value)


def test_the_program_ends_with_the_sentence_and_code_2(tmp_path: Path) -> None:
    write_packed(packing_named("gptq"), tmp_path / "model", QWEN2)
    said(bits=3)(tmp_path / "model")
    settings = [f"target.model={tmp_path / 'model'}", "server.port=0", "target.device=cpu"]
    tokens = tmp_path / "tokens"
    CliRunner().invoke(main, ["token", "add", "kitchen", "--tokens-file", str(tokens)])
    settings.append(f"server.tokens_file={tokens}")
    result = CliRunner().invoke(main, ["run", *(x for s in settings for x in ("--set", s))])
    assert 2 == result.exit_code
    assert "quantization_config.bits is 3, which is not 4 or 8" in result.stderr
    assert "Traceback" not in result.stderr


def assert_served(packing: Packing, directory: Path, name: str) -> None:
    architecture = BY_NAME[name]
    model, _ = write_packed(packing, directory, architecture)
    prompts = prompts_of(architecture)
    expected = [generated(model, prompt, NUM_TOKENS) for prompt in prompts]
    placed = load_on_cpu(directory, context_tokens=128, kv_cache_tokens=2048)
    streams = DraftedStreams(placed.target, prompts, expected, GREEDY, NUM_TOKENS)
    assert expected == streams.run(4)
