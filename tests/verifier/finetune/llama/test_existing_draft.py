"""Drafts that are there are read whatever their weights are kept in, and must fit their target."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from shared.errors import ModelError
from tests.support.models.distilled_drafts import write_chat_target
from tests.support.models.tiny_gguf import write_tiny_llama
from tests.verifier.finetune.llama.test_gguf_target import (
    KIN,
    TEXT,
    logits_of,
    logits_of_llama,
)
from verifier.finetune.llama.existing_draft import existing_draft_shape, read_existing_draft
from verifier.finetune.llama.gguf_draft import write_draft
from verifier.finetune.llama.gguf_target import read_target

VOCABULARY = 304


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return write_chat_target(tmp_path / "target.gguf")


def test_an_untied_draft_comes_back_from_its_file_with_its_output(
    target: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source.gguf"
    write_tiny_llama(source, seed=4)
    model = read_existing_draft(source, target, VOCABULARY)
    assert not existing_draft_shape(source).is_tied
    out = tmp_path / "draft.gguf"
    write_draft(model, target, out, kind="Q8_0", recipe="{}", began_from=source)
    theirs = logits_of_llama(out, TEXT)
    ours = logits_of(read_target(out), TEXT)[-1].detach().numpy()
    # llama.cpp rounds what goes into products of such weights to 8 bits.
    assert (ours - theirs).std() < 0.05 * theirs.std()
    assert torch.allclose(model.last_norm, read_target(out).last_norm)


def test_the_file_says_of_the_body_what_the_draft_said_and_of_the_words_what_the_target_does(
    target: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source.gguf"

    def edit(writer: gguf.GGUFWriter) -> None:
        writer.add_rope_freq_base(5000.0)
        writer.add_license("of the draft")
        writer.add_vocab_size(VOCABULARY + 90)  # llama.cpp believes it
        writer.add_string("goodspeed.finetune.recipe", "an older one")

    write_tiny_llama(source, seed=4, context_tokens=256, edit=edit)
    out = tmp_path / "draft.gguf"
    model = read_existing_draft(source, target, VOCABULARY)
    write_draft(model, target, out, kind="Q4_0", recipe="{}", began_from=source)
    fields = {key: field.contents() for key, field in gguf.GGUFReader(out).fields.items()}
    assert 256 == fields["llama.context_length"]
    assert VOCABULARY == fields["llama.vocab_size"]
    assert 5000.0 == fields["llama.rope.freq_base"]
    assert "of the draft" == fields["general.license"]
    assert "{}" == fields["goodspeed.finetune.recipe"]
    theirs = gguf.GGUFReader(target).fields["tokenizer.chat_template"].contents()
    assert theirs == fields["tokenizer.chat_template"]


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q4_1", "Q5_1", "F16", "Q6_K", "Q2_K"])
def test_weights_of_any_kind_are_read_as_llama_cpp_reads_them(
    target: Path, tmp_path: Path, kind: str
) -> None:
    model = read_target(target)
    writer = gguf.GGUFWriter(tmp_path / "kinds.gguf", "llama")
    source = gguf.GGUFReader(target)
    for key, field in source.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            is_array = field.types[0] is gguf.GGUFValueType.ARRAY
            sub_type = field.types[-1] if is_array else None
            writer.add_key_value(key, field.contents(), field.types[0], sub_type=sub_type)
    block_type = gguf.GGMLQuantizationType[kind]
    generator = np.random.default_rng(2)
    expected = {}
    for tensor in source.tensors:
        block, num_bytes = gguf.GGML_QUANT_SIZES[block_type]
        if len(tensor.shape) == 1 or tensor.data.shape[-1] % block:
            writer.add_tensor(tensor.name, tensor.data)
            continue
        if kind.endswith("_K"):  # which gguf reads, but does not write
            rows, width = tensor.data.shape
            packed = generator.integers(0, 64, (rows, width // block * num_bytes), dtype=np.uint8)
        else:
            packed = gguf.quantize(tensor.data, block_type)
        writer.add_tensor(tensor.name, packed, raw_dtype=block_type)
        expected[tensor.name] = gguf.dequantize(packed, block_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = read_existing_draft(tmp_path / "kinds.gguf", target, VOCABULARY)
    for name, numbers in expected.items():
        if name == "token_embd.weight":
            assert np.allclose(numbers, found.embedding.detach().numpy())
    assert torch.isfinite(found.get_parameter("down")).all()
    assert model.shape == found.shape


def test_tokens_that_only_the_target_has_are_learned_anew(target: Path, tmp_path: Path) -> None:
    source = tmp_path / "source.gguf"
    write_tiny_llama(source, seed=4)
    model = read_existing_draft(source, target, VOCABULARY + 6)
    assert VOCABULARY + 6 == model.shape.vocab_size == len(model.embedding)
    assert torch.allclose(model.embedding[:VOCABULARY].mean(0), model.embedding[-1], atol=1e-5)
    assert 100 == len(read_existing_draft(source, target, 100).embedding)


def test_a_draft_of_other_words_is_refused_by_the_id(target: Path, tmp_path: Path) -> None:
    source = tmp_path / "source.gguf"

    def edit(writer: gguf.GGUFWriter) -> None:
        tokens = list(gguf.GGUFReader(target).fields["tokenizer.ggml.tokens"].contents())
        tokens[70] = "other"
        writer.kv_data[0].pop("tokenizer.ggml.tokens")
        writer.add_token_list(tokens)

    write_tiny_llama(source, edit=edit)
    with pytest.raises(ModelError, match=r"cannot draft for .*token id 70 is b'other'"):
        read_existing_draft(source, target, VOCABULARY)


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.YARN), "scales its rotations"),
        (lambda w: w.add_key_length(32), "turns 16 of the 32 numbers of a head"),
    ],
    ids=["scaled rotations", "partial rotations"],
)
def test_a_draft_that_is_not_known_is_refused(tmp_path: Path, edit: object, sentence: str) -> None:
    write_tiny_llama(tmp_path / "source.gguf", edit=edit)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=sentence):
        existing_draft_shape(tmp_path / "source.gguf")


def test_keys_that_are_told_layer_by_layer_are_known_where_all_are_the_same(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "same.gguf", kv_heads=[2, 2])
    assert 2 == existing_draft_shape(tmp_path / "same.gguf").kv_heads
    write_tiny_llama(tmp_path / "other.gguf", kv_heads=[2, 4])
    with pytest.raises(ModelError, match="layers with other"):
        existing_draft_shape(tmp_path / "other.gguf")


@pytest.mark.parametrize("architecture", KIN)
def test_a_draft_of_llamas_kin_stays_one(target: Path, tmp_path: Path, architecture: str) -> None:
    source, out = tmp_path / "source.gguf", tmp_path / "draft.gguf"
    write_tiny_llama(source, seed=4, architecture=architecture, edit=KIN[architecture])
    model = read_existing_draft(source, target, VOCABULARY)
    write_draft(model, target, out, kind="Q8_0", recipe="{}", began_from=source)
    assert architecture == gguf.GGUFReader(out).fields["general.architecture"].contents()
    ours = logits_of(read_target(out), TEXT)[-1].detach().numpy()
    theirs = logits_of_llama(out, TEXT)
    assert (ours - theirs).std() < 0.05 * theirs.std()
