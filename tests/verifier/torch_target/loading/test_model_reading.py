"""What a target is made of comes from its files, all of them, and nothing else."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from shared.errors import ModelError
from shared.speculation.sampling import GREEDY
from tests.support.models.target_loading import load_on_cpu
from tests.support.models.tiny_directory import write_tiny_directory
from tests.support.models.tiny_gguf import write_tiny_llama
from tests.support.models.tiny_models import tiny_llama
from verifier.target.round import DraftCheck, Round, RoundItem
from verifier.torch_target.forward.torch_target import TorchTarget
from verifier.torch_target.loading.model_reading import (
    find_model,
    outline,
    quiet_reading,
    read_config,
    read_model,
)
from verifier.torch_target.model_files.gguf_parts import read_gguf_model


def logits_of(target: TorchTarget) -> torch.Tensor:
    token_ids = tuple(range(40, 60))
    check = DraftCheck((), (), "coupled", GREEDY, seed=0, position=0, draws_bonus=True)
    return target.logits(Round((RoundItem(0, token_ids, 0, (0, 1), check),)))


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    files = find_model(path)
    with quiet_reading(files):
        model = read_model(files, read_config(files), torch.float32)
    weights: dict[str, torch.Tensor] = model.state_dict()
    return weights


def assert_same(expected: dict[str, torch.Tensor], actual: dict[str, torch.Tensor]) -> None:
    assert expected.keys() == actual.keys()
    assert [] == [name for name in expected if not torch.equal(expected[name], actual[name])]


def test_a_model_in_parts_is_the_whole_one(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "tiny.gguf")
    write_tiny_llama(tmp_path / "parts.gguf", tensors_per_part=8)
    first = tmp_path / "parts-00001-of-00003.gguf"
    assert_same(weights_of(tmp_path / "tiny.gguf"), weights_of(first))
    assert "parts" == load_on_cpu(first).target.model_name


def test_a_model_in_parts_is_served(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "parts.gguf", tensors_per_part=8)
    placed = load_on_cpu(tmp_path / "parts-00001-of-00003.gguf")
    assert 304 == placed.target.vocab_size == len(placed.tokenizer.token_bytes)


def test_a_part_of_another_model_is_named(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "a.gguf", tensors_per_part=8)
    second = tmp_path / "a-00002-of-00003.gguf"
    second.write_bytes((tmp_path / "a-00003-of-00003.gguf").read_bytes())
    with pytest.raises(
        ModelError, match=r"00002-of-00003\.gguf is not part 2 of 3 by its own word"
    ):
        read_gguf_model(tmp_path / "a-00001-of-00003.gguf")


def test_parts_that_are_renamed_cannot_be_found(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "a.gguf", tensors_per_part=8)
    (tmp_path / "a-00001-of-00003.gguf").rename(tmp_path / "b.gguf")
    with pytest.raises(ModelError, match=r"they must be NAME-00001-of-00003\.gguf and so on"):
        read_gguf_model(tmp_path / "b.gguf")


def test_tied_weights_are_not_missing(tmp_path: Path) -> None:
    path = tmp_path / "tied.gguf"
    write_tiny_llama(path, without={"output.weight"})
    weights = weights_of(path)
    assert torch.equal(weights["model.embed_tokens.weight"], weights["lm_head.weight"])


def test_a_directory_has_the_weights_of_its_file(tmp_path: Path) -> None:
    write_tiny_directory(tmp_path)
    assert_same(load_file(tmp_path / "model.safetensors"), weights_of(tmp_path))
    assert_same(tiny_llama().state_dict(), weights_of(tmp_path))


def test_an_outline_is_as_large_as_the_model_and_takes_nothing(tmp_path: Path) -> None:
    write_tiny_directory(tmp_path)
    files = find_model(tmp_path)
    with quiet_reading(files):
        plan = outline(read_config(files), torch.float16)
    expected = [p.numel() for p in tiny_llama().parameters()]
    assert expected == [p.numel() for p in plan.parameters()]
    assert {"meta"} == {p.device.type for p in plan.parameters()}


@pytest.mark.parametrize("factor", [1.0, 4.0])
def test_the_factors_of_rotations_in_a_gguf_file_are_used(factor: float, tmp_path: Path) -> None:
    def add_factors(writer: gguf.GGUFWriter) -> None:
        writer.add_tensor("rope_freqs.weight", np.full(8, factor, np.float32))

    write_tiny_llama(tmp_path / "plain.gguf")
    write_tiny_llama(tmp_path / "slowed.gguf", edit=add_factors)
    plain, slowed = (
        logits_of(load_on_cpu(tmp_path / name).target) for name in ("plain.gguf", "slowed.gguf")
    )
    assert (factor == 1.0) == torch.equal(plain, slowed)


def test_factors_of_another_size_are_refused(tmp_path: Path) -> None:
    def add_factors(writer: gguf.GGUFWriter) -> None:
        writer.add_tensor("rope_freqs.weight", np.ones(3, np.float32))

    write_tiny_llama(tmp_path / "odd.gguf", edit=add_factors)
    with pytest.raises(ModelError, match=r"rope_freqs\.weight does not fit the rotations"):
        load_on_cpu(tmp_path / "odd.gguf")


def test_every_token_that_a_gguf_file_ends_with_ends_a_text(tmp_path: Path) -> None:
    def add_ends(writer: gguf.GGUFWriter) -> None:
        writer.add_eot_token_id(65)
        writer.add_eom_token_id(66)

    write_tiny_llama(tmp_path / "ends.gguf", edit=add_ends)
    assert {256, 65, 66} <= load_on_cpu(tmp_path / "ends.gguf").tokenizer.end_ids


def test_every_token_of_the_generation_settings_ends_a_text(tmp_path: Path) -> None:
    write_tiny_directory(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [5, 7]}')
    assert {5, 7} <= load_on_cpu(tmp_path).tokenizer.end_ids


def test_a_stream_is_not_longer_than_the_model_was_trained_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_tiny_llama(tmp_path / "tiny.gguf")
    with caplog.at_level("INFO"):
        placed = load_on_cpu(tmp_path / "tiny.gguf", context_tokens=4096)
    assert 512 == placed.target.context_tokens
    expected = "target.context_tokens = 4096 is lowered to 512, which the model was trained for"
    assert expected in caplog.messages
