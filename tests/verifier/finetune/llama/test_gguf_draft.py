"""A draft's file computes in llama.cpp what its rounded weights compute here."""

from __future__ import annotations

import hashlib
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from edge_agent.draft_model.llama_outline import read_outline
from tests.support.models.distilled_drafts import TINY_SHAPE, write_chat_target
from tests.support.models.tiny_gguf import write_tiny_llama
from tests.verifier.finetune.llama.test_gguf_target import (
    KIN,
    TEXT,
    logits_of,
    logits_of_llama,
)
from verifier.finetune.llama.block_rounding import rounded, straight_through
from verifier.finetune.llama.gguf_draft import write_draft
from verifier.finetune.llama.gguf_target import read_target
from verifier.finetune.llama.llama_model import LlamaModel
from verifier.finetune.llama.narrow_start import draft_llama_shape, narrow_draft
from verifier.torch_target.loading.draft_fit import check_draft_fits
from verifier.torch_target.loading.gguf_vocabulary import read_gguf_vocabulary


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return write_chat_target(tmp_path / "target.gguf")


def drafted(target: Path) -> LlamaModel:
    """A draft with weights that no rounding leaves alone."""
    model = LlamaModel(draft_llama_shape(read_target(target).shape, TINY_SHAPE), seed=3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)
    return model


@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0"])
def test_llama_cpp_computes_what_the_rounded_weights_do(
    target: Path, tmp_path: Path, kind: str
) -> None:
    model = drafted(target)
    write_draft(model, target, tmp_path / "draft.gguf", kind=kind, recipe="{}")
    read = read_target(tmp_path / "draft.gguf")
    assert torch.equal(rounded(model.embedding, kind), read.embedding)
    assert torch.equal(rounded(model.get_parameter("down"), kind), read.get_parameter("down"))
    ours = logits_of(read, TEXT)[-1].numpy()
    theirs = logits_of_llama(tmp_path / "draft.gguf", TEXT)
    # llama.cpp rounds what goes into products of such weights to 8 bits.
    assert (ours - theirs).std() < 0.05 * theirs.std()


def test_the_file_has_the_targets_vocabulary_and_template(target: Path, tmp_path: Path) -> None:
    write_draft(drafted(target), target, tmp_path / "draft.gguf", kind="Q8_0", recipe='{"seed":3}')
    check_draft_fits(tmp_path / "draft.gguf", read_gguf_vocabulary(target).token_bytes)
    fields = gguf.GGUFReader(tmp_path / "draft.gguf").fields
    own, theirs = fields["tokenizer.chat_template"], gguf.GGUFReader(target).fields
    assert theirs["tokenizer.chat_template"].contents() == own.contents()
    assert '{"seed":3}' == fields["goodspeed.finetune.recipe"].contents()
    assert read_outline(tmp_path / "draft.gguf").quantisation.startswith("Q8_0")


def test_a_file_that_cannot_be_written_leaves_the_old_one(target: Path, tmp_path: Path) -> None:
    out = tmp_path / "draft.gguf"
    write_draft(drafted(target), target, out, kind="Q8_0", recipe="{}")
    before = hashlib.sha256(out.read_bytes()).digest()
    with pytest.raises(FileNotFoundError):
        write_draft(drafted(target), tmp_path / "no.gguf", out, kind="Q8_0", recipe="{}")
    assert before == hashlib.sha256(out.read_bytes()).digest()
    assert {"target.gguf", "draft.gguf"} == {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0"])
def test_rounding_is_that_of_the_files_writer(kind: str) -> None:
    weight = torch.randn(7, 96, generator=torch.Generator().manual_seed(1))
    weight[3, :32] = 0.0
    once = rounded(weight, kind)
    block_type = gguf.GGMLQuantizationType[kind]
    written = gguf.dequantize(gguf.quantize(once.numpy(), block_type), block_type)
    assert np.array_equal(once.numpy(), written.astype(np.float32))
    directly = gguf.dequantize(gguf.quantize(weight.numpy(), block_type), block_type)
    assert np.abs(once.numpy() - directly).max() < 0.2  # a step, where a half is near
    assert (weight - once).abs().max() < (0.4 if kind == "Q4_0" else 0.02)


def test_the_gradient_goes_through_rounding() -> None:
    weight = torch.randn(2, 64, requires_grad=True)
    (straight_through(weight, "Q4_0") * 2).sum().backward()
    assert weight.grad is not None
    assert torch.equal(torch.full((2, 64), 2.0), weight.grad)
    assert straight_through(weight, None) is weight


def test_a_narrow_start_knows_the_targets_likeliest_tokens(target: Path) -> None:
    model = read_target(target)
    states = torch.randn(500, 64, generator=torch.Generator().manual_seed(2))
    states[:, 32:] *= 0.01  # what is little used may be lost
    draft = narrow_draft(model, TINY_SHAPE, states, seed=0)
    assert model.unembedding is not None
    wanted = states @ model.unembedding.T
    # The best states that the draft's embedding can be multiplied by give nearly those logits.
    best = torch.linalg.lstsq(draft.embedding.detach(), wanted.T).solution.T
    lost = (best @ draft.embedding.detach().T - wanted).norm() / wanted.norm()
    assert lost < 0.05


@pytest.mark.parametrize("architecture", KIN)
def test_a_new_draft_of_a_target_of_llamas_kin_is_a_plain_llama(
    tmp_path: Path, architecture: str
) -> None:
    target, out = tmp_path / "target.gguf", tmp_path / "draft.gguf"

    def edit(writer: gguf.GGUFWriter) -> None:
        writer.add_rope_freq_base(5000.0)
        KIN[architecture](writer)

    write_tiny_llama(target, architecture=architecture, edit=edit)
    write_draft(drafted(target), target, out, kind="Q8_0", recipe="{}")
    fields = gguf.GGUFReader(out).fields
    assert 512 == fields["llama.context_length"].contents()
    assert 5000.0 == fields["llama.rope.freq_base"].contents()
    assert not any(key.startswith(architecture) for key in fields)
    ours = logits_of(read_target(out), TEXT)[-1].detach().numpy()
    theirs = logits_of_llama(out, TEXT)
    assert (ours - theirs).std() < 0.05 * theirs.std()
