"""From a target to a draft in a file: texts, training, the file, in one bounded time.

Whatever interrupts it, the draft's file is whole or as it was, and the next run with the same
order goes on where this one ended.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec
import torch

from shared.daemon.files import replace_file
from shared.daemon.resources.main_memory import free_main_memory
from shared.errors import ModelError, RequestRefused
from shared.protocol.held_out_texts import HeldOutTexts, JudgedMode, pack_texts
from verifier.finetune.llama.existing_draft import (
    check_existing_draft,
    existing_draft_shape,
    read_existing_draft,
)
from verifier.finetune.llama.gguf_draft import write_draft
from verifier.finetune.llama.gguf_target import check_memory_to_read, read_target
from verifier.finetune.llama.llama_model import LlamaModel
from verifier.finetune.llama.narrow_start import narrow_draft
from verifier.finetune.order import Clock, DraftOrder, Tell
from verifier.finetune.recipe.recipe import FileWeights
from verifier.finetune.recipe.twin_files import TwinFiles
from verifier.finetune.target_texts import SEEDS, TargetTexts
from verifier.finetune.texts.held_out import judged_texts
from verifier.finetune.texts.kept_texts import keep_texts, kept_texts
from verifier.finetune.texts.written_texts import WrittenTexts
from verifier.finetune.told_training import ToldTraining
from verifier.finetune.training.batches import groups_of
from verifier.finetune.training.held_out_acceptance import HeldOutAcceptance, mean_acceptance
from verifier.finetune.training.student import Student
from verifier.torch_target.precision.torch_device import choose_device


def make_draft(order: DraftOrder, tell: Tell, clock: Clock) -> None:
    """Make the draft of the order, or go on with it; the clock began when the time to take did.

    Raises:
        ModelError: the target or a draft that is there is not fit, or memory or disk too small.
        RequestRefused: there are no prompts to begin with, an unfinished run had another order, or
            the file would replace what it is made from.
        OSError: a file cannot be written.
    """
    if order.target.is_dir():
        raise ModelError(f"{order.target} is a folder; finetune takes targets in GGUF files")
    if order.out.exists() and any(
        path is not None and order.out.samefile(path) for path in (order.target, order.draft)
    ):
        raise RequestRefused(f"{order.out} would be written over itself; name another file")
    if order.draft is not None:
        shape = existing_draft_shape(order.draft)
        recipe = msgspec.structs.replace(order.recipe, shape=shape)
        order = msgspec.structs.replace(order, recipe=recipe)
    _Making(order, tell, clock).run()


def _encoded(order: DraftOrder) -> bytes:
    return msgspec.json.encode(order, enc_hook=str, order="sorted")


class _Making:
    def __init__(self, order: DraftOrder, tell: Tell, clock: Clock) -> None:
        self._order, self._tell, self._clock = order, tell, clock
        self._recipe = order.recipe
        self._device = choose_device(order.device)
        self._held_out: HeldOutAcceptance | None = None

    def run(self) -> None:
        order, tell = self._order, self._tell
        if order.draft is not None:
            check_existing_draft(order.draft, order.target)
        for path in filter(None, (order.target, order.draft)):
            check_memory_to_read(path, free_main_memory())
        self._open_work_dir()
        torch.manual_seed(self._recipe.seed)
        tell.stage(f"reading {order.target.name}")
        target = read_target(order.target).to(self._device)
        writer = TargetTexts(order, target, self._device, tell, self._clock)
        student, before = self._trained(writer, target)
        self._write(student, before)
        shutil.rmtree(order.work_dir)

    def _trained(
        self, writer: TargetTexts, target: LlamaModel
    ) -> tuple[Student, Mapping[JudgedMode, float]]:
        """A student that has learned, and what was accepted before of a draft that was there."""
        order, num_parts = self._order, self._recipe.writings
        path = order.work_dir / "student"
        training = ToldTraining(self._recipe, path, self._clock, self._tell)
        first = training.parts_behind()
        texts = self._texts(writer, target, first)
        student = self._student(target, texts)
        before = self._before(student)
        for part in range(first, num_parts):
            if part > first:
                texts = self._texts(writer, target, part)
            training.run(target, texts, student, self._held_out, part)
            del texts  # before other ones are written
        return student, before

    def _open_work_dir(self) -> None:
        """Take up an unfinished run of the same order."""
        path = self._order.work_dir / "order.json"
        digest = hashlib.sha256(_encoded(self._order)).hexdigest()
        if path.exists() and path.read_text() != digest:
            raise RequestRefused(
                f"{self._order.work_dir} holds an unfinished run with other options; delete it, or "
                "give the same ones to go on"
            )
        replace_file(path, digest.encode(), mode=0o600)

    def _texts(self, writer: TargetTexts, target: LlamaModel, part: int) -> WrittenTexts:
        """What is learned from in a part of the training, and beside it what is held out."""
        kept, kept_held_out = (
            self._order.work_dir / name for name in (f"texts-{part}", "held_out")
        )
        if self._held_out is None and kept_held_out.exists():
            held_out = kept_texts(kept_held_out, target, torch.float32)
            self._held_out = HeldOutAcceptance(target, held_out)
        if kept.exists():
            self._tell.stage("reading the texts of the interrupted run again")
            return kept_texts(kept, target, writer.dtype)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()  # of graphs of the part before
        # Else an interrupted run would ask what the part before it has asked.
        torch.manual_seed(self._recipe.seed + part * SEEDS)
        was_held_out = () if self._held_out is None else self._held_out.prompts
        prompts = writer.prompts(was_held_out)
        if prompts.held_out and self._held_out is None:
            held_out = writer.write_held_out(prompts.held_out)
            keep_texts(held_out, kept_held_out)
            self._write_judged_texts(held_out, target)
            self._held_out = HeldOutAcceptance(target, held_out)
        texts = writer.write(prompts.learned, part)
        keep_texts(texts, kept)
        return texts

    def _write_judged_texts(self, texts: WrittenTexts, target: LlamaModel) -> None:
        """What other programs judge drafts by."""
        judged = tuple(judged_texts(target, texts))
        packed = pack_texts(HeldOutTexts(self._order.target.stem, target.shape.vocab_size, judged))
        replace_file(self._order.texts_path, packed, mode=0o644)
        num_tokens = sum(len(text.tokens) // 4 for text in judged)
        self._tell.say(
            f"{self._order.texts_path}: {len(judged)} held-out texts, {num_tokens} tokens, "
            f"{len(packed) / 1e6:.1f} MB"
        )

    def _student(self, target: LlamaModel, texts: WrittenTexts) -> Student:
        recipe, draft = self._recipe, self._order.draft
        if draft is not None:
            vocab_size = target.shape.vocab_size
            model = read_existing_draft(draft, self._order.target, vocab_size)
        else:
            states = texts.sampled_states(recipe.seed)
            model = narrow_draft(target, recipe.shape, states, recipe.seed)
        num_groups = len(groups_of(texts))
        return Student(model.to(self._device), recipe, num_groups, recipe.context_tokens)

    def _before(self, student: Student) -> Mapping[JudgedMode, float]:
        """What is accepted of a draft that was there, in 8 bits; of a new one nothing is told."""
        if self._order.draft is None or self._held_out is None:
            return {}
        found = mean_acceptance(self._held_out.judged(student, "Q8_0"))
        told = ", ".join(f"{mode} {rate:.3f}" for mode, rate in found.items())
        self._tell.say(f"held out, before, in 8 bits: {told}")
        return found

    def _file_weights(self, student: Student, before: Mapping[JudgedMode, float]) -> FileWeights:
        """Those of the order, unless 4 bits lose too much, also beside what was there before."""
        if self._recipe.weights != "Q4_0":
            return self._recipe.weights
        twins = TwinFiles({}, {})
        if self._held_out is not None:
            four, eight = (self._held_out.judged(student, kind) for kind in ("Q4_0", "Q8_0"))
            # Weights that learned to be rounded may be worse without it.
            best = {m: max(rate, before.get(m, 0.0)) for m, rate in mean_acceptance(eight).items()}
            twins = TwinFiles(mean_acceptance(four), best)
        self._tell.say(str(twins))
        return twins.weights

    def _write(self, student: Student, before: Mapping[JudgedMode, float]) -> None:
        order, kind = self._order, self._file_weights(student, before)
        student.merge()
        recipe = msgspec.json.encode(self._recipe).decode()  # as it was trained
        kinds: dict[Path, FileWeights] = {order.out: kind}
        if order.keeps_twin and kind == "Q4_0":
            kinds[order.twin_path] = "Q8_0"
        for path, weights in kinds.items():
            self._tell.stage(f"writing {path.name}")
            write_draft(
                *(student.model, order.target, path),
                kind=weights,
                recipe=recipe,
                began_from=order.draft,
            )
            check_existing_draft(path, order.target)
            self._tell.say(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
