"""A training from its start, or from where it was interrupted, and what a person is told of it."""

from __future__ import annotations

from pathlib import Path

import torch

from shared.errors import ModelError
from verifier.finetune.llama.llama_model import LlamaModel
from verifier.finetune.order import Clock, Tell
from verifier.finetune.recipe.estimates import step_products
from verifier.finetune.recipe.peak_products import peak_operations
from verifier.finetune.recipe.recipe import Recipe
from verifier.finetune.texts.written_texts import WrittenTexts
from verifier.finetune.training import checkpoint
from verifier.finetune.training.batches import make_batches
from verifier.finetune.training.checkpoint import Reached
from verifier.finetune.training.held_out_acceptance import HeldOutAcceptance
from verifier.finetune.training.kernel_times import kernel_shares
from verifier.finetune.training.student import Student
from verifier.finetune.training.target_logits import TargetLogits
from verifier.finetune.training.training_loop import Report, TrainingLoop, Watchers

_NUM_REPORTS = 12
_AIM_OF_PEAK = 0.4  # below it a person is told where the time goes


class ToldTraining:
    """One training; its checkpoints are in `path`."""

    def __init__(self, recipe: Recipe, path: Path, clock: Clock, tell: Tell) -> None:
        self._recipe, self._path, self._clock, self._tell = recipe, path, clock, tell
        self._reached: Reached | None = None  # by the parts behind

    def parts_behind(self) -> int:
        """How many parts an interrupted run has learned.

        Raises:
            ModelError: what it was to go on from is broken.
        """
        if not self._path.exists():
            return 0
        reached = checkpoint.reached_in(self._path)
        num_parts = self._recipe.writings
        return min(num_parts - 1, int(reached.seconds / reached.total_seconds * num_parts))

    def run(
        self,
        target: LlamaModel,
        texts: WrittenTexts,
        student: Student,
        held_out: HeldOutAcceptance | None,
        part: int = 0,
    ) -> None:
        """Learn a part of the time that was left when the first one began.

        Raises:
            ModelError: memory does not do, or what a run was to go on from is broken.
        """
        recipe, tell, path = self._recipe, self._tell, self._path
        batches = make_batches(texts, recipe.step_tokens, recipe.seed + part)
        logits = TargetLogits(target, texts, batches.max_positions)
        loop = TrainingLoop(student, batches, logits, recipe, self._clock)
        total = recipe.training_seconds(self._clock())
        if self._reached is None and path.exists():
            self._reached = checkpoint.restore(student, path)
        if self._reached is not None:
            total = self._reached.total_seconds
            loop.seconds, loop.num_steps = self._reached.seconds, self._reached.num_steps
            tell.say(f"going on at {loop.seconds:.0f} of {total:.0f} s, step {loop.num_steps}")
        parameters = recipe.shape.num_parameters(target.shape.vocab_size)
        learning = f"rank {recipe.lora_rank} beside" if recipe.lora_rank else "all of"
        tell.stage(
            f"training {learning} {recipe.shape}, {parameters / 1e6:.1f} million weights, "
            f"{total:.0f} s"
        )

        def keep_now(seconds: float, num_steps: int) -> None:
            checkpoint.keep(student, Reached(seconds, num_steps, total), path)

        def report(report: Report) -> None:
            tell.advance(report.fraction)
            tell.say(_sentence(report, student, held_out))

        try:
            watchers = Watchers(report, keep_now, total / _NUM_REPORTS)
            loop.run(total, watchers, until=(part + 1) / recipe.writings)
        except torch.OutOfMemoryError as error:
            raise ModelError(f"{error}; fewer --step-tokens need less memory") from error
        except KeyboardInterrupt:
            keep_now(loop.seconds, loop.num_steps)
            raise
        keep_now(loop.seconds, loop.num_steps)  # a file that cannot be written costs no training
        self._reached = Reached(loop.seconds, loop.num_steps, total)
        self._tell_speed(loop, target)

    def _tell_speed(self, loop: TrainingLoop, target: LlamaModel) -> None:
        if not loop.run_steps:
            return
        products = step_products(
            self._recipe.shape,
            *(target.shape.vocab_size, target.shape.hidden),
            *(loop.num_read_tokens, loop.num_positions),
        )
        seconds = max(1e-9, loop.run_seconds - loop.capture_seconds)
        speed = products / seconds
        peak = _peak(target.last_norm.device)
        of_peak = "" if peak is None else f", {100 * speed / peak:.1f} % of the peak in bfloat16"
        self._tell.say(
            f"{1e3 * seconds / loop.run_steps:.1f} ms a step, {loop.num_positions / seconds:.0f} "
            f"tokens/s, products of {speed / 1e12:.1f} TFLOP/s{of_peak}; "
            f"{loop.capture_seconds:.1f} s for graphs"
        )
        if peak is not None and speed < _AIM_OF_PEAK * peak:
            shares = kernel_shares(loop.run_idle_steps)
            told = ", ".join(f"{kind} {100 * share:.0f} %" for kind, share in shares.items())
            if told:
                self._tell.say(f"of a step's time on the GPU: {told}")


def _sentence(report: Report, student: Student, held_out: HeldOutAcceptance | None) -> str:
    progress = report.progress
    found = {} if held_out is None else held_out.look(student)
    look = ", ".join(f"{mode} {value:.3f}" for mode, value in found.items())
    return (
        f"{report.seconds:.0f} s, {report.num_steps} steps, "
        f"{report.num_positions / 1e6:.1f}M tokens: KL {progress.kl:.3f}, accepted at 1 "
        f"{progress.acceptance:.3f}, same choice {progress.same_choice:.3f}"
        f"{f'; held out {look}' if look else ''}"
    )


def _peak(device: torch.device) -> float | None:
    if device.type != "cuda":
        return None
    return peak_operations(torch.cuda.get_device_name(device))
