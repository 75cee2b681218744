"""From a target to a draft: it learns, its file is whole, and interrupted runs go on."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import gguf
import msgspec
import numpy as np
import pytest
import torch

from edge_agent.draft_model.drafter import Forward
from edge_agent.draft_model.llama_drafter import LlamaDrafter
from edge_agent.draft_model.llama_outline import read_outline
from shared.errors import ModelError, RequestRefused
from shared.protocol.fingerprint import fingerprint
from shared.protocol.held_out_texts import unpack_texts
from tests.support.models.distilled_drafts import (
    TEMPLATE,
    TINY_SHAPE,
    TickingClock,
    Told,
    tiny_order,
)
from tests.support.models.tiny_gguf import write_tiny_llama
from tests.verifier.finetune.llama.test_gguf_target import KIN
from verifier.finetune.llama.block_rounding import rounded
from verifier.finetune.llama.gguf_target import read_target
from verifier.finetune.making import make_draft
from verifier.finetune.order import DraftOrder
from verifier.finetune.recipe.prompt_files import Prompt
from verifier.finetune.texts.kept_texts import unpack_texts as unpack_kept_texts
from verifier.finetune.training.training_loop import TrainingLoop
from verifier.torch_target.loading.gguf_vocabulary import read_gguf_vocabulary


def kl_of(told: Told) -> list[float]:
    found = (re.search(r"KL ([\d.]+)", sentence) for sentence in told.sentences)
    return [float(match[1]) for match in found if match]


def test_a_draft_is_made_that_llama_cpp_runs_and_handshakes_accept(tmp_path: Path) -> None:
    order, told = tiny_order(tmp_path), Told()
    make_draft(order, told, TickingClock())
    losses = kl_of(told)
    assert losses[-1] < 0.8 * losses[0]
    drafter = LlamaDrafter(order.out, 1, 64, 1, 1)
    try:
        (row,) = drafter.forward([Forward(0, (5, 6, 7), wants_logits=True)])
        assert row is not None
        assert np.isfinite(row).all()
        target_bytes = read_gguf_vocabulary(order.target).token_bytes
        assert fingerprint(target_bytes) == fingerprint(drafter.token_bytes)
    finally:
        drafter.close()
    texts = unpack_texts(order.texts_path.read_bytes(), "draft.texts")
    assert {("first", mode) for mode in ("greedy", "0.8", "1")} <= {
        (text.domain, text.mode) for text in texts.texts
    }
    assert not order.work_dir.exists()


def test_a_draft_may_read_by_another_embedding_than_it_writes_by(tmp_path: Path) -> None:
    shape = msgspec.structs.replace(TINY_SHAPE, is_tied=False)
    order, told = tiny_order(tmp_path, shape=shape), Told()
    make_draft(order, told, TickingClock())
    losses = kl_of(told)
    assert losses[-1] < 0.8 * losses[0]
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(order.out).tensors}
    assert (tensors["output.weight"].data != tensors["token_embd.weight"].data).any()
    drafter = LlamaDrafter(order.out, 1, 64, 1, 1)
    try:
        assert drafter.forward([Forward(0, (5,), wants_logits=True)])[0] is not None
    finally:
        drafter.close()


def test_an_interrupted_run_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order, told = tiny_order(tmp_path), Told()

    def stopped(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(TrainingLoop, "reported", stopped)
        with pytest.raises(KeyboardInterrupt):
            make_draft(order, told, TickingClock())
    assert not order.out.exists()
    assert (order.work_dir / "student").exists()
    other = msgspec.structs.replace(order, recipe=msgspec.structs.replace(order.recipe, seed=5))
    with pytest.raises(RequestRefused, match="unfinished run with other options"):
        make_draft(other, told, TickingClock())
    again = Told()
    make_draft(order, again, TickingClock())
    assert any(sentence.startswith("going on at") for sentence in again.sentences)
    assert any("interrupted run again" in stage for stage in again.stages)
    answered = [stage for stage in again.stages if "answers" in stage]
    assert 1 == len(answered)  # those of the second part alone
    assert order.out.exists()


def test_a_run_that_was_interrupted_late_goes_on_with_its_last_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = tiny_order(tmp_path)

    def stopped(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("verifier.finetune.making.write_draft", stopped)
        with pytest.raises(KeyboardInterrupt):
            make_draft(order, Told(), TickingClock())
    first, second = (unpack_kept_texts(order.work_dir / f"texts-{part}") for part in (0, 1))
    assert [text.tokens for text in first.texts] != [text.tokens for text in second.texts]
    told = Told()
    make_draft(order, told, TickingClock())
    assert not any("answers" in stage for stage in told.stages)
    assert order.out.exists()


def test_a_checkpoint_that_is_broken_is_told(tmp_path: Path) -> None:
    order = tiny_order(tmp_path)
    order.work_dir.mkdir()
    (order.work_dir / "texts-0").write_bytes(b"no texts")
    with pytest.raises(ModelError, match="delete it to begin anew"):
        make_draft(order, Told(), TickingClock())


def test_too_little_memory_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("verifier.finetune.target_texts.free_main_memory", lambda: 1 << 20)
    with pytest.raises(ModelError, match=r"GiB of memory, and 0\.0 are free"):
        make_draft(tiny_order(tmp_path), Told(), TickingClock())


def test_a_target_without_a_chat_template_is_told_before_anything_is_written(
    tmp_path: Path,
) -> None:
    order = tiny_order(tmp_path)
    write_tiny_llama(order.target)
    with pytest.raises(ModelError, match=r"has no chat template .* take the file of a chat model"):
        make_draft(order, Told(), TickingClock())
    assert not order.out.exists()


def test_the_longest_texts_may_be_of_any_length(tmp_path: Path) -> None:
    order = tiny_order(tmp_path, prompt_tokens=37, answer_tokens=32)  # batches are wider than 69
    longest = Prompt("a" * 15, "some")
    make_draft(msgspec.structs.replace(order, prompts=(longest,)), Told(), TickingClock())
    assert order.out.exists()


def test_a_draft_of_four_bits_is_trained_with_its_rounding(tmp_path: Path) -> None:
    order, told = tiny_order(tmp_path, weights="Q4_0"), Told()
    make_draft(order, told, TickingClock())
    losses = kl_of(told)
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("architecture", KIN)
def test_a_target_of_llamas_kin_gets_a_plain_draft(tmp_path: Path, architecture: str) -> None:
    def edit(writer: gguf.GGUFWriter) -> None:
        writer.add_chat_template(TEMPLATE)
        KIN[architecture](writer)

    order = tiny_order(tmp_path)
    write_tiny_llama(order.target, architecture=architecture, edit=edit)
    make_draft(order, Told(), TickingClock())
    assert "llama" == gguf.GGUFReader(order.out).fields["general.architecture"].contents()


def an_existing_draft(order: DraftOrder, lora_rank: int = 0) -> DraftOrder:
    """The order for a draft that is there; its own output learns, too, unless a rank is given."""
    source = order.out.with_name("source.gguf")
    write_tiny_llama(source, seed=7)
    recipe = order.recipe.aligning(lora_rank)
    return msgspec.structs.replace(order, draft=source, recipe=recipe)


@pytest.mark.parametrize("lora_rank", [0, 4], ids=["whole", "of low rank"])
def test_a_draft_that_is_there_is_aligned(tmp_path: Path, lora_rank: int) -> None:
    order, told = an_existing_draft(tiny_order(tmp_path), lora_rank), Told()
    make_draft(order, told, TickingClock())
    losses = kl_of(told)
    assert losses[-1] < losses[0]
    assert order.draft is not None
    before, after = read_target(order.draft), read_target(order.out)
    assert before.shape == after.shape
    assert after.unembedding is not None
    is_same = torch.equal(rounded(before.embedding, "Q8_0"), after.embedding)
    assert (lora_rank > 0) == is_same
    assert not torch.equal(
        rounded(before.get_parameter("down"), "Q8_0"), after.get_parameter("down")
    )


def test_four_bits_must_hold_beside_what_was_there_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order, told = an_existing_draft(tiny_order(tmp_path, weights="Q4_0")), Told()
    learned = {"greedy": 0.5, "0.8": 0.5, "1": 0.5}
    judged = iter(({"greedy": 0.5, "0.8": 0.6, "1": 0.5}, learned, learned))
    monkeypatch.setattr("verifier.finetune.making.mean_acceptance", lambda texts: next(judged))
    make_draft(order, told, TickingClock())
    assert "held out, before, in 8 bits: greedy 0.500, 0.8 0.600, 1 0.500" in told.sentences
    assert any("0.8 0.500 / 0.600" in sentence for sentence in told.sentences)
    assert read_outline(order.out).quantisation.startswith("Q8_0")


def test_an_interrupted_alignment_goes_on_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = an_existing_draft(tiny_order(tmp_path), lora_rank=4)

    def stopped(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(TrainingLoop, "reported", stopped)
        with pytest.raises(KeyboardInterrupt):
            make_draft(order, Told(), TickingClock())
    again = Told()
    make_draft(order, again, TickingClock())
    assert any(sentence.startswith("going on at") for sentence in again.sentences)
    assert any("held out" in sentence for sentence in again.sentences)


def test_a_draft_of_another_vocabulary_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    order = tiny_order(tmp_path)
    source = tmp_path / "source.gguf"

    def edit(writer: gguf.GGUFWriter) -> None:
        tokens = list(gguf.GGUFReader(order.target).fields["tokenizer.ggml.tokens"].contents())
        tokens[70] = "other"
        writer.kv_data[0].pop("tokenizer.ggml.tokens")
        writer.add_token_list(tokens)

    write_tiny_llama(source, edit=edit)
    told = Told()
    with pytest.raises(ModelError, match="token id 70 is b'other'"):
        make_draft(msgspec.structs.replace(order, draft=source), told, TickingClock())
    assert not order.work_dir.exists()


def test_four_bits_go_out_with_their_twin_where_they_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("verifier.finetune.recipe.twin_files.ALLOWED_LOSS", 1.0)
    order = msgspec.structs.replace(tiny_order(tmp_path, weights="Q4_0"), keeps_twin=True)
    make_draft(order, Told(), TickingClock())
    kinds = [read_outline(path).quantisation[:4] for path in (order.out, order.twin_path)]
    assert ["Q4_0", "Q8_0"] == kinds


def test_four_bits_that_lose_too_much_are_written_in_eight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("verifier.finetune.recipe.twin_files.ALLOWED_LOSS", -1.0)
    order, told = tiny_order(tmp_path, weights="Q4_0"), Told()
    make_draft(order, told, TickingClock())
    assert read_outline(order.out).quantisation.startswith("Q8_0")
    assert any("written in 8 bits" in sentence for sentence in told.sentences)


def test_without_held_out_prompts_a_few_are_held_out_of_the_others(tmp_path: Path) -> None:
    order = tiny_order(tmp_path)
    prompts = tuple(Prompt(f"words and words {number}", "some") for number in range(16))
    order = msgspec.structs.replace(order, held_out=(), prompts=prompts, num_questions=0)
    told = Told()
    make_draft(order, told, TickingClock())
    texts = unpack_texts(order.texts_path.read_bytes(), "draft.texts")
    assert {"some"} == {text.domain for text in texts.texts}
    assert any("answers 15 prompts" in stage for stage in told.stages)


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = SimpleNamespace(free=1000)
    monkeypatch.setattr("verifier.finetune.target_texts.shutil.disk_usage", lambda path: full)
    with pytest.raises(ModelError, match=r"0\.0 GB of disk left"):
        make_draft(tiny_order(tmp_path), Told(), TickingClock())


def test_weights_that_memory_does_not_hold_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("verifier.finetune.making.free_main_memory", lambda: 1000)
    order, told = tiny_order(tmp_path), Told()
    with pytest.raises(ModelError, match=r"reading .*target.gguf takes 0\.0 GiB of memory"):
        make_draft(order, told, TickingClock())
    assert not told.stages


def test_a_draft_never_replaces_what_it_is_made_from(tmp_path: Path) -> None:
    order = tiny_order(tmp_path)
    same = msgspec.structs.replace(order, out=order.target)
    with pytest.raises(RequestRefused, match="would be written over itself"):
        make_draft(same, Told(), TickingClock())
    (tmp_path / "folder").mkdir()
    folder = msgspec.structs.replace(order, target=tmp_path / "folder")
    with pytest.raises(ModelError, match="is a folder"):
        make_draft(folder, Told(), TickingClock())


def test_a_file_that_cannot_be_written_costs_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = tiny_order(tmp_path)

    def full(*arguments: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("verifier.finetune.making.write_draft", full)
        with pytest.raises(OSError, match="No space left"):
            make_draft(order, Told(), TickingClock())
    again = Told()
    make_draft(order, again, TickingClock())
    assert order.out.exists()
    assert not any("ms a step" in sentence for sentence in again.sentences)
