"""Traffic turns to code: how much a draft gains by online tuning on a GPU, and what it forgets.

    python -m tests.benchmarks.cuda_domain_shift TARGET.gguf --prompts P.jsonl --held-out H.jsonl \
        --draft smollm2-18m.gguf --out DIR

A draft that is poor in code is made from P without the target's questions that speak of it. Then
"traffic": the target answers questions about code that it asks itself, at most as many tokens as
ten minutes of it have. `tune` learns from it as it does beside a verifier (replay, gate), and the
held-out prompts of H, of which none was learned, say what it came to by domain: HumanEval's are
code. The same once more from `--draft`, a draft that knows code already; and a candidate that was
tuned on answers of random tokens, which the gate must refuse.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import click
import torch

from tests.benchmarks.cuda_finetune_utility import Told, first_ones
from verifier.drafts.candidate_gate import refusal
from verifier.drafts.tuning_job import TunedText, TuningJob
from verifier.finetune.llama.existing_draft import existing_draft_shape, read_existing_draft
from verifier.finetune.llama.gguf_draft import write_draft
from verifier.finetune.llama.gguf_target import read_target
from verifier.finetune.llama.llama_model import LlamaModel
from verifier.finetune.llama.narrow_start import narrow_draft
from verifier.finetune.order import DraftOrder
from verifier.finetune.recipe.draft_shape import parse_shape
from verifier.finetune.recipe.prompt_files import read_prompts
from verifier.finetune.recipe.recipe import Recipe
from verifier.finetune.target_texts import EncodedPrompt, TargetTexts
from verifier.finetune.training.batches import groups_of, make_batches
from verifier.finetune.training.held_out_acceptance import HeldOutAcceptance, JudgedText
from verifier.finetune.training.student import Student
from verifier.finetune.training.target_logits import TargetLogits
from verifier.finetune.training.training_loop import UNWATCHED, TrainingLoop
from verifier.finetune.tuning import tune
from verifier.torch_target.loading.gguf_vocabulary import read_gguf_vocabulary
from verifier.torch_target.precision.torch_device import choose_device

CODE_WORDS = (b"code", b"python", b"java", b"function", b"script", b"sql", b"html", b"program")
CODE_STARTS = (
    *("Write a Python function", "Complete the following Python code", "Write a Java program"),
    *("Implement a class", "Write a SQL query", "Fix the bug in this function", "def "),
)
TRAFFIC_TOKENS = 240_000  # ten minutes of eight boards at 50 tokens/s
STREAM_TOKENS = 128  # that a stream is kept of


@click.command()
@click.argument("target_file", metavar="TARGET.gguf", type=click.Path(path_type=Path))
@click.option("--prompts", type=click.Path(path_type=Path), multiple=True)
@click.option("--held-out", type=click.Path(path_type=Path), multiple=True, required=True)
@click.option("--held-out-prompts", default=12, show_default=True, help="Of a domain, at most.")
@click.option("--draft", type=click.Path(path_type=Path), required=True)
@click.option("--out", "directory", type=click.Path(path_type=Path), required=True)
@click.option("--texts-seconds", default=15.0, show_default=True)
@click.option("--training-seconds", default=45.0, show_default=True, help="Of the poor draft.")
@click.option("--tuning-seconds", default=30.0, show_default=True)
@click.option("--shape", default="256x8x640", show_default=True)
@click.option("--slots", default=1024, show_default=True)
@click.option("--step-tokens", default=24_576, show_default=True)
@click.option("--questions", default=4096, show_default=True)
@click.option("--device", default="auto", show_default=True)
def main(
    target_file: Path,
    prompts: tuple[Path, ...],
    held_out: tuple[Path, ...],
    held_out_prompts: int,
    draft: Path,
    directory: Path,
    texts_seconds: float,
    training_seconds: float,
    tuning_seconds: float,
    shape: str,
    slots: int,
    step_tokens: int,
    questions: int,
    device: str,
) -> None:
    """Print acceptance by domain before and after, and what the gate says."""
    recipe = Recipe(
        parse_shape(shape),
        minutes=texts_seconds / 60 / 0.3,  # of which this part is for texts
        slots=slots,
        step_tokens=step_tokens,
        writings=1,
    )
    order = DraftOrder(
        target=target_file,
        out=directory / "poor.gguf",
        recipe=recipe,
        device=device,
        prompts=read_prompts(prompts),
        held_out=first_ones(read_prompts(held_out), held_out_prompts),
        num_questions=questions,
    )
    order.work_dir.mkdir(parents=True, exist_ok=True)
    shift = _Shift(order, Told())
    shift.make_poor_draft(training_seconds)
    traffic = shift.traffic()
    shift.tell("poor in code", order.out, traffic, tuning_seconds)
    shift.tell("shipped", draft, traffic, tuning_seconds)
    chance = random.Random(0)
    spoiled = tuple(
        TunedText(
            text.prompt_ids, tuple(chance.randrange(shift.vocab_size) for _ in text.token_ids)
        )
        for text in traffic
    )
    shift.tell("shipped, tuned on random answers", draft, spoiled, tuning_seconds / 2)


class _Shift:
    def __init__(self, order: DraftOrder, told: Told) -> None:
        self._order, self._told = order, told
        self._device = choose_device(order.device)
        torch.manual_seed(0)
        self._target = read_target(order.target).to(self._device)
        self.vocab_size = self._target.shape.vocab_size
        self._writer = TargetTexts(order, self._target, self._device, told, told.seconds)
        prompts = self._writer.prompts()
        self._prompts = prompts.learned
        held_out = self._writer.write_held_out(prompts.held_out)
        self._held_out = HeldOutAcceptance(self._target, held_out)
        self._token_bytes = read_gguf_vocabulary(order.target).token_bytes
        self._kept_out = {prompt.token_ids for prompt in prompts.held_out}

    def make_poor_draft(self, seconds: float) -> None:
        """A draft whose texts are not about code."""
        order, target = self._order, self._target
        learned = [prompt for prompt in self._prompts if not self._is_code(prompt)]
        self._told.say(f"{len(learned)} of {len(self._prompts)} prompts are not about code")
        texts = self._writer.write(learned)
        model = narrow_draft(target, order.recipe.shape, texts.sampled_states(0), 0)
        student = self._student(model.to(self._device), order.recipe, len(groups_of(texts)))
        batches = make_batches(texts, order.recipe.step_tokens, 0)
        logits = TargetLogits(target, texts, batches.max_positions)
        loop = TrainingLoop(student, batches, logits, order.recipe, self._told.seconds)
        loop.run(seconds, UNWATCHED)
        self._told.say(f"{loop.num_steps} steps, {loop.capture_seconds:.0f} s for graphs")
        write_draft(student.model, order.target, order.out, kind="Q4_0", recipe="", began_from=None)

    def traffic(self) -> tuple[TunedText, ...]:
        """What streams about code leave, each once: at temperature 0 or 1."""
        writer = self._writer
        asked = writer.ask(CODE_STARTS)
        prompts = [EncodedPrompt(ids, "code") for ids in asked if ids not in self._kept_out]
        random.Random(0).shuffle(prompts)
        written = writer.write(prompts[: TRAFFIC_TOKENS // STREAM_TOKENS])
        found: dict[int, TunedText] = {}
        for place in written.places:
            if place.temperature == 0.8 or place.prompt_index in found:
                continue
            answer = tuple(written.answer(place).tolist()[:STREAM_TOKENS])
            ids = written.prompts[place.prompt_index]
            is_greedy = place.temperature == 0
            found[place.prompt_index] = TunedText(ids, answer, is_greedy=is_greedy)
        num_tokens = sum(len(text.token_ids) for text in found.values())
        self._told.say(f"traffic: {len(found)} streams about code, {num_tokens} tokens")
        return tuple(found.values())

    def tell(self, name: str, draft: Path, texts: tuple[TunedText, ...], seconds: float) -> None:
        """Tune a draft on texts, and say by domain what it came to."""
        out = self._order.out.with_name("candidate.gguf")
        job = TuningJob(
            target=self._order.target,
            draft=draft,
            out=out,
            replay=self._order.out.with_name("replay.texts"),
            texts=texts,
            seconds=seconds,
            threads=2,
            device=self._device.type,
        )
        began = self._told.seconds()
        result = tune(job, self._told, self._told.seconds)
        took = self._told.seconds() - began
        why = result.fault or refusal(result.pairs)
        verdict = "offered" if why is None else f"refused: {why}"
        self._told.say(f"== {name}: {result.num_steps} steps, {took:.0f} s in all; {verdict}")
        before, after = self._judged(draft), self._judged(out)
        print("| mode | domain | texts | before | after | change | ± (95 %) |\n" + "|---" * 7 + "|")
        for key in sorted(before):
            print(_row(key, before[key], after[key]), flush=True)

    def _judged(self, draft: Path) -> dict[tuple[str, str], list[float]]:
        """Means of texts by mode and domain; of code by domain, of all others together, too."""
        model = read_existing_draft(draft, self._order.target, self.vocab_size)
        recipe = Recipe(existing_draft_shape(draft), writings=1)
        student = self._student(model.to(self._device), recipe, 1)
        found: dict[tuple[str, str], list[float]] = defaultdict(list)
        for text in self._held_out.judged(student, None):
            for domain in (text.domain, *(() if text.domain == "humaneval" else ("others",))):
                found[text.mode, domain].append(_mean(text))
        return found

    def _student(self, model: LlamaModel, recipe: Recipe, num_groups: int) -> Student:
        return Student(model, recipe, num_groups, self._order.recipe.context_tokens)

    def _is_code(self, prompt: EncodedPrompt) -> bool:
        words = b"".join(self._token_bytes[index] for index in prompt.token_ids).lower()
        return any(word in words for word in CODE_WORDS)


def _mean(text: JudgedText) -> float:
    return sum(text.acceptance) / len(text.acceptance)


def _row(key: tuple[str, str], before: Sequence[float], after: Sequence[float]) -> str:
    changes = torch.tensor(after) - torch.tensor(before)
    margin = 2.0 * float(changes.std()) / len(changes) ** 0.5
    cells = [f"{sum(x) / len(x):.3f}" for x in (before, after)]
    cells += [f"{float(changes.mean()):+.3f}", f"{margin:.3f}"]
    return "| " + " | ".join([*key, str(len(before)), *cells]) + " |"


if __name__ == "__main__":
    main()
