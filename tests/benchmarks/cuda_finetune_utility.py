"""Does it pay to weight positions by utility? Drafts of the same steps and seeds, side by side.

`python -m tests.benchmarks.cuda_finetune_utility train TARGET.gguf --held-out H.jsonl --out DIR`
makes them (`--prompts P.jsonl`: to learn from, too): for each seed one start that learns
distributions, and from there, with the same batches, an arm for each weight of utility (0: all
positions count the same), and for the first seed an arm in 8 bits. All of it takes `--minutes`: how
many steps that makes is measured first. It needs a GPU to mean something; `--steps` in place of the
minutes runs it small anywhere.

`… table DIR` tells what came of it, also elsewhere: tokens of a round on held-out texts (drafts of
4 and 8), and with `--simulate` Σ log goodput of a fleet whose boards draft as these texts say.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
import torch

from tests.benchmarks.utility_table import Arm, ArmTexts, print_tables
from verifier.finetune.llama.gguf_target import read_target
from verifier.finetune.llama.llama_model import LlamaModel
from verifier.finetune.llama.narrow_start import draft_llama_shape, narrow_draft
from verifier.finetune.order import DraftOrder
from verifier.finetune.recipe.draft_shape import parse_shape
from verifier.finetune.recipe.estimates import step_products
from verifier.finetune.recipe.peak_products import peak_operations
from verifier.finetune.recipe.prompt_files import Prompt, read_prompts
from verifier.finetune.recipe.recipe import FileWeights, Recipe
from verifier.finetune.target_texts import TargetTexts
from verifier.finetune.training import checkpoint
from verifier.finetune.training.batches import make_batches
from verifier.finetune.training.checkpoint import Reached
from verifier.finetune.training.held_out_acceptance import HeldOutAcceptance, mean_acceptance
from verifier.finetune.training.kernel_times import kernel_shares
from verifier.finetune.training.student import Student
from verifier.finetune.training.target_logits import TargetLogits
from verifier.finetune.training.training_loop import UNWATCHED, TrainingLoop
from verifier.torch_target.precision.torch_device import choose_device, hardware_name

_TRIAL_STEPS = 64  # of each half, to measure what a step takes
_END_SECONDS = 25.0  # kept for judging, and for what was not foreseen
_ARM_SECONDS = 8.0  # of an arm beside its steps: graphs, judging
_STEPS_TOGETHER = 8  # between two looks of a training loop
_BATCH_SEEDS = 1000  # on top of the seed: arms read other batches than their start did


@click.group()
def main() -> None:
    """Drafts with and without utility in their loss."""


@main.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--simulate", is_flag=True, help="Play a mixed fleet, too; takes minutes.")
def table(directory: Path, simulate: bool) -> None:
    """Tell what the arms in DIRECTORY came to."""
    print_tables(directory, simulates=simulate)


@main.command()
@click.argument("target_file", metavar="TARGET.gguf", type=click.Path(path_type=Path))
@click.option("--prompts", type=click.Path(path_type=Path), multiple=True)
@click.option("--held-out", type=click.Path(path_type=Path), multiple=True, required=True)
@click.option("--held-out-prompts", default=16, show_default=True, help="Of a domain, at most.")
@click.option("--out", "directory", type=click.Path(path_type=Path), required=True)
@click.option("--minutes", default=7.0, show_default=True)
@click.option("--steps", default=0, help="Of each arm from its start on, in place of the minutes.")
@click.option("--seeds", default=3, show_default=True)
@click.option("--utilities", default="0,1", show_default=True)
@click.option("--texts-seconds", default=40.0, show_default=True)
@click.option("--shape", default="256x8x640", show_default=True)
@click.option("--slots", default=1024, show_default=True)
@click.option("--step-tokens", default=24_576, show_default=True)
@click.option("--answer-tokens", default=256, show_default=True)
@click.option("--questions", default=16_384, show_default=True)
@click.option("--held-out-tokens", default=128, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--simulate", is_flag=True, help="Then play a mixed fleet, on all cores.")
def train(
    target_file: Path,
    prompts: tuple[Path, ...],
    held_out: tuple[Path, ...],
    held_out_prompts: int,
    directory: Path,
    minutes: float,
    steps: int,
    seeds: int,
    utilities: str,
    texts_seconds: float,
    shape: str,
    slots: int,
    step_tokens: int,
    answer_tokens: int,
    questions: int,
    held_out_tokens: int,
    device: str,
    simulate: bool,
) -> None:
    """Make all drafts for TARGET.gguf and keep what was accepted of each."""
    recipe = Recipe(
        parse_shape(shape),
        minutes=texts_seconds / 60 / 0.3,  # of which this part is for texts
        slots=slots,
        step_tokens=step_tokens,
        answer_tokens=answer_tokens,
        writings=1,
    )
    order = DraftOrder(
        target=target_file,
        out=directory / "draft.gguf",
        recipe=recipe,
        device=device,
        prompts=read_prompts(prompts),
        held_out=first_ones(read_prompts(held_out), held_out_prompts),
        held_out_tokens=held_out_tokens,
        num_questions=questions,
    )
    order.work_dir.mkdir(parents=True, exist_ok=True)
    weights = tuple(float(word) for word in utilities.split(","))
    bench = _Bench(order, directory, Told())
    bench.run(weights, seeds, steps, minutes)
    print_tables(directory, simulates=simulate)


def first_ones(prompts: Sequence[Prompt], of_a_domain: int) -> tuple[Prompt, ...]:
    """So many of each domain at most."""
    seen: dict[str, int] = {}
    chosen = []
    for prompt in prompts:
        seen[prompt.domain] = seen.get(prompt.domain, 0) + 1
        if seen[prompt.domain] <= of_a_domain:
            chosen.append(prompt)
    return tuple(chosen)


class Told:
    """Implements `verifier.finetune.order.Tell`."""

    def __init__(self) -> None:
        self.began = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self.began

    def stage(self, title: str) -> None:
        self.say(title)

    def advance(self, fraction: float) -> None:
        """Lines are for what has been reached."""

    def say(self, sentence: str) -> None:
        print(f"[{self.seconds():6.1f}] {sentence}", flush=True)


class _Bench:
    """All arms over the same texts."""

    def __init__(self, order: DraftOrder, directory: Path, told: Told) -> None:
        self._order, self._directory, self._told = order, directory, told
        self._device = choose_device(order.device)
        told.say(f"{hardware_name(self._device)}, torch {torch.__version__}")
        self._target = read_target(order.target).to(self._device)
        writer = TargetTexts(order, self._target, self._device, told, told.seconds)
        prompts = writer.prompts()
        self._held_out = HeldOutAcceptance(self._target, writer.write_held_out(prompts.held_out))
        self._texts = writer.write(prompts.learned)
        self._batches = make_batches(self._texts, order.recipe.step_tokens, 0)
        self._logits = TargetLogits(self._target, self._texts, self._batches.max_positions)

    def run(self, utilities: Sequence[float], seeds: int, steps: int, minutes: float) -> None:
        """All arms of all seeds, each in `steps` from its start, or as many as the time allows."""
        aligned_part = 1 - self._order.recipe.aligned_at
        num_arms = seeds * len(utilities) + 1
        parts = seeds * (1 - aligned_part) + num_arms * aligned_part
        if not steps:
            step_seconds = self._step_seconds()
            left = 60 * minutes - self._told.seconds() - _END_SECONDS
            left -= _ARM_SECONDS * (num_arms + seeds)
            steps = int(left / step_seconds / parts)
        steps = max(2, steps // _STEPS_TOGETHER) * _STEPS_TOGETHER
        self._told.say(f"{steps} steps an arm, {num_arms} arms")
        for seed in range(seeds):
            self._start(seed, steps)
            for utility in utilities:
                self._arm(Arm(seed, utility, "Q4_0", steps))
            if seed == 0:
                self._arm(Arm(seed, utilities[-1], "Q8_0", steps))

    def _start(self, seed: int, steps: int) -> None:
        """What the arms of a seed have in common: the part that learns distributions."""
        recipe = msgspec.structs.replace(self._order.recipe, seed=seed)
        model = narrow_draft(self._target, recipe.shape, self._texts.sampled_states(seed), seed)
        student, loop = self._loop(model, recipe, seed)
        loop.run(1.0, UNWATCHED, total_steps=steps, until=recipe.aligned_at)
        self._tell_speed(loop)
        checkpoint.keep(student, Reached(loop.seconds, loop.num_steps, 1.0), self._path)

    def _arm(self, arm: Arm) -> None:
        recipe = msgspec.structs.replace(
            self._order.recipe, seed=arm.seed, utility=arm.utility, weights=arm.weights
        )
        student, loop = self._loop(self._bare_model(), recipe, arm.seed + _BATCH_SEEDS)
        loop.num_steps = checkpoint.restore(student, self._path).num_steps
        loop.run(1.0, UNWATCHED, total_steps=arm.steps)
        self._tell_speed(loop)
        if arm.weights == "Q8_0" and self._device.type == "cuda":  # once is enough
            self._tell_kernels(loop)
        kinds: set[FileWeights] = {arm.weights, "Q8_0"}
        for kind in sorted(kinds):
            judged = self._held_out.judged(student, kind)
            path = self._directory / f"{arm.name}-as-{kind}.json"
            path.write_bytes(msgspec.json.encode(ArmTexts(arm, kind, tuple(judged))))
            means = [f"{mode} {rate:.4f}" for mode, rate in mean_acceptance(judged).items()]
            self._told.say(f"{arm.name} as {kind}: {', '.join(means)}")

    def _loop(
        self, model: LlamaModel, recipe: Recipe, batch_seed: int
    ) -> tuple[Student, TrainingLoop]:
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        self._batches.restart(batch_seed)
        torch.manual_seed(recipe.seed)
        student = Student(
            model.to(self._device), recipe, len(self._batches.groups), recipe.context_tokens
        )
        return student, TrainingLoop(
            student, self._batches, self._logits, recipe, self._synchronised_clock
        )

    def _bare_model(self) -> LlamaModel:
        """Of the draft's shape, to be filled."""
        return LlamaModel(draft_llama_shape(self._target.shape, self._order.recipe.shape), 0)

    def _synchronised_clock(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.monotonic()

    @property
    def _path(self) -> Path:
        return self._order.work_dir / "start"

    def _step_seconds(self) -> float:
        """A step's time, as the two halves of a training share it."""
        recipe = self._order.recipe
        found = []
        for aligned_at in (1.0, 0.0):
            trial = msgspec.structs.replace(recipe, aligned_at=aligned_at)
            _, loop = self._loop(self._bare_model(), trial, 0)
            loop.run(1.0, UNWATCHED, total_steps=_TRIAL_STEPS)
            found.append((loop.run_seconds - loop.capture_seconds) / loop.run_steps)
            self._told.say(
                f"{1e3 * found[-1]:.1f} ms a step, {loop.capture_seconds:.1f} s for graphs"
            )
        return found[0] * recipe.aligned_at + found[1] * (1 - recipe.aligned_at)

    def _tell_speed(self, loop: TrainingLoop) -> None:
        target = self._target.shape
        seconds = max(1e-9, loop.run_seconds - loop.capture_seconds)
        sizes = (target.vocab_size, target.hidden, loop.num_read_tokens, loop.num_positions)
        speed = step_products(self._order.recipe.shape, *sizes) / seconds
        peak = peak_operations(hardware_name(self._device))
        of_peak = "" if peak is None else f", {100 * speed / peak:.1f} % of the bfloat16 peak"
        self._told.say(
            f"{loop.run_steps} steps in {seconds:.1f} s, {loop.capture_seconds:.1f} s for graphs, "
            f"products of {speed / 1e12:.2f} TFLOP/s{of_peak}"
        )

    def _tell_kernels(self, loop: TrainingLoop) -> None:
        shares = kernel_shares(loop.run_idle_steps)
        told = ", ".join(f"{kind} {100 * share:.1f} %" for kind, share in shares.items())
        self._told.say(f"of a step's time on the GPU: {told}")


if __name__ == "__main__":
    main()
