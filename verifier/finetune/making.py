"""From a target to a draft in a file: texts, training, the file, in one bounded time.

Whatever interrupts it, the draft's file is whole or as it was, and the next run with the same
order goes on where this one ended.
"""

from __future__ import annotations

import hashlib
import shutil

import msgspec
import torch

from shared.daemon.files import replace_file
from shared.errors import ModelError, RequestRefused
from shared.protocol.held_out_texts import HeldOutTexts, pack_texts
from verifier.finetune.llama.gguf_draft import write_draft
from verifier.finetune.llama.gguf_target import read_target
from verifier.finetune.llama.llama_model import LlamaModel
from verifier.finetune.llama.narrow_start import narrow_draft
from verifier.finetune.order import Clock, DraftOrder, Tell
from verifier.finetune.recipe.estimates import step_products
from verifier.finetune.target_texts import TargetTexts
from verifier.finetune.texts.held_out import judged_texts
from verifier.finetune.texts.kept_texts import keep_texts, kept_texts
from verifier.finetune.texts.written_texts import WrittenTexts
from verifier.finetune.training import checkpoint
from verifier.finetune.training.batches import make_batches
from verifier.finetune.training.checkpoint import Reached
from verifier.finetune.training.held_out_acceptance import HeldOutLook
from verifier.finetune.training.student import Student
from verifier.finetune.training.target_logits import TargetLogits
from verifier.finetune.training.training_loop import Report, TrainingLoop, Watchers
from verifier.torch_target.loading.draft_fit import check_draft_fits
from verifier.torch_target.loading.gguf_vocabulary import read_gguf_vocabulary
from verifier.torch_target.precision.torch_device import choose_device

_NUM_REPORTS = 12
_SAMPLED_STATES = 8192  # that the draft's embedding is chosen by


def make_draft(order: DraftOrder, tell: Tell, clock: Clock) -> None:
    """Make the draft of the order, or go on with it; the clock began when the time to take did.

    Raises:
        ModelError: the target is not fit, or memory or disk are too small.
        RequestRefused: there are no prompts to begin with, or an unfinished run had another order.
        OSError: a file cannot be written.
    """
    _Making(order, tell, clock).run()


def _encoded(order: DraftOrder) -> bytes:
    return msgspec.json.encode(order, enc_hook=str, order="sorted")


class _Making:
    def __init__(self, order: DraftOrder, tell: Tell, clock: Clock) -> None:
        self._order, self._tell, self._clock = order, tell, clock
        self._device = choose_device(order.device)
        self._look: HeldOutLook | None = None

    def run(self) -> None:
        order, tell = self._order, self._tell
        self._open_work_dir()
        torch.manual_seed(order.recipe.seed)
        tell.stage(f"reading {order.target.name}")
        target = read_target(order.target).to(self._device)
        writer = TargetTexts(order, target, self._device, tell, self._clock)
        texts = self._texts(writer, target)
        student = self._student(target, texts)
        self._train(target, texts, student)
        tell.stage(f"writing {order.out.name}")
        packed = msgspec.json.encode(order.recipe).decode()
        kind = order.recipe.weights
        write_draft(student.model, order.target, order.out, kind=kind, recipe=packed)
        check_draft_fits(order.out, read_gguf_vocabulary(order.target).token_bytes)
        shutil.rmtree(order.work_dir)
        tell.say(f"{order.out}: {order.out.stat().st_size / 1e6:.1f} MB")

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

    def _texts(self, writer: TargetTexts, target: LlamaModel) -> WrittenTexts:
        path = self._order.work_dir / "texts"
        if path.exists():
            self._tell.stage("reading the texts of the interrupted run again")
            return kept_texts(path, target, writer.dtype)
        if self._order.held_out:
            self._hold_out(writer, target)
        texts = writer.write()
        keep_texts(texts, path)
        return texts

    def _hold_out(self, writer: TargetTexts, target: LlamaModel) -> None:
        texts = writer.write_held_out()
        self._look = HeldOutLook(target, texts)
        judged = tuple(judged_texts(target, texts))
        packed = pack_texts(HeldOutTexts(self._order.target.stem, target.shape.vocab_size, judged))
        replace_file(self._order.texts_path, packed, mode=0o644)
        num_tokens = sum(len(text.tokens) // 4 for text in judged)
        self._tell.say(
            f"{self._order.texts_path}: {len(judged)} held-out texts, {num_tokens} tokens, "
            f"{len(packed) / 1e6:.1f} MB"
        )

    def _student(self, target: LlamaModel, texts: WrittenTexts) -> Student:
        recipe = self._order.recipe
        chance = torch.Generator().manual_seed(recipe.seed)
        all_rows = torch.cat([texts.rows_on_cpu(place) for place in texts.places])
        picked = all_rows[torch.randperm(len(all_rows), generator=chance)[:_SAMPLED_STATES]]
        states = texts.states[picked.to(self._device)]
        model = narrow_draft(target, recipe.shape, states, recipe.seed).to(self._device)
        groups = {texts.domain(place) for place in texts.places}
        return Student(model, recipe, len(groups), recipe.context_tokens)

    def _train(self, target: LlamaModel, texts: WrittenTexts, student: Student) -> None:
        recipe, tell = self._order.recipe, self._tell
        batches = make_batches(texts, recipe.step_tokens, recipe.seed)
        logits = TargetLogits(target, texts, batches.max_positions)
        loop = TrainingLoop(student, batches, logits, recipe, self._clock)
        path = self._order.work_dir / "student"
        total = recipe.training_seconds(self._clock())
        if path.exists():
            reached = checkpoint.restore(student, path)
            total, loop.seconds, loop.num_steps = (
                reached.total_seconds,
                reached.seconds,
                reached.num_steps,
            )
            tell.say(f"going on at {reached.seconds:.0f} of {total:.0f} s, step {loop.num_steps}")
        shape = recipe.shape
        parameters = shape.num_parameters(target.shape.vocab_size)
        tell.stage(f"training {shape}, {parameters / 1e6:.1f} million weights, {total:.0f} s")

        def keep_now(seconds: float, num_steps: int) -> None:
            checkpoint.keep(student, Reached(seconds, num_steps, total), path)

        def report(report: Report) -> None:
            tell.advance(report.fraction)
            tell.say(self._sentence(report, student))

        try:
            loop.run(total, Watchers(report, keep_now, total / _NUM_REPORTS))
        except torch.OutOfMemoryError as error:
            raise ModelError(f"{error}; fewer --step-tokens need less memory") from error
        except KeyboardInterrupt:
            keep_now(loop.seconds, loop.num_steps)
            raise
        self._tell_speed(loop, target)

    def _sentence(self, report: Report, student: Student) -> str:
        progress = report.progress
        held_out = {} if self._look is None else self._look.acceptance(student)
        look = ", ".join(f"{mode} {value:.3f}" for mode, value in held_out.items())
        return (
            f"{report.seconds:.0f} s, {report.num_steps} steps, "
            f"{report.num_positions / 1e6:.1f}M tokens: KL {progress.kl:.3f}, accepted at 1 "
            f"{progress.acceptance:.3f}, same choice {progress.same_choice:.3f}"
            f"{f'; held out {look}' if look else ''}"
        )

    def _tell_speed(self, loop: TrainingLoop, target: LlamaModel) -> None:
        if not loop.run_steps:
            return
        products = step_products(
            self._order.recipe.shape,
            *(target.shape.vocab_size, target.shape.hidden),
            *(loop.num_read_tokens, loop.num_positions),
        )
        seconds = max(1e-9, loop.run_seconds - loop.capture_seconds)
        self._tell.say(
            f"{1e3 * seconds / loop.run_steps:.1f} ms a step, {loop.num_positions / seconds:.0f} "
            f"tokens/s, products of {products / seconds / 1e12:.1f} TFLOP/s; "
            f"{loop.capture_seconds:.1f} s for graphs"
        )
