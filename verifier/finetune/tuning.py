"""Tunes a draft a little, on texts in which drafts were wrong, and on the target's own again.

What a draft learns from a few texts it pays for with others that it forgets, so each part of what
is learned is as large as the other; of both an eighth is held out, and judged before and after.
This module must never write a text that came from a stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

from shared.daemon.resources.main_memory import free_main_memory
from shared.errors import ModelError
from verifier.drafts.tuning_job import (
    MOST_ANSWER_TOKENS,
    MOST_PROMPT_TOKENS,
    SEEN,
    HeldOutPair,
    TunedText,
    TuningJob,
    TuningResult,
)
from verifier.finetune.llama.existing_draft import (
    check_existing_draft,
    existing_draft_shape,
    read_existing_draft,
)
from verifier.finetune.llama.gguf_draft import write_draft
from verifier.finetune.llama.gguf_target import check_memory_to_read, read_target
from verifier.finetune.llama.llama_model import LlamaModel
from verifier.finetune.order import Clock, DraftOrder, Tell
from verifier.finetune.recipe.recipe import FileWeights, Recipe
from verifier.finetune.target_texts import TargetTexts
from verifier.finetune.texts.kept_texts import (
    KeptText,
    KeptTexts,
    keep_texts,
    read_again,
    unpack_texts,
)
from verifier.finetune.training.batches import make_batches
from verifier.finetune.training.held_out_acceptance import HeldOutAcceptance, JudgedText
from verifier.finetune.training.student import Student
from verifier.finetune.training.target_logits import TargetLogits
from verifier.finetune.training.training_loop import UNWATCHED, TrainingLoop
from verifier.torch_target.model_files.gguf_header import read_gguf_header
from verifier.torch_target.precision.torch_device import choose_device

_HELD_OUT_OF = 8
_STEP_TOKENS = 2048
# Once the target writes texts to be learned again; it takes a good quarter of this time.
_REPLAY_MINUTES = {"cpu": 10.0, "cuda": 1.0}
_REPLAY_SLOTS = {"cpu": 16, "cuda": 256}
_REPLAY_QUESTIONS = 256
_Q4_0_BITS = 4.5


@dataclass(frozen=True, slots=True)
class _Split:
    learned: KeptTexts
    held_out: KeptTexts


def tune(job: TuningJob, tell: Tell, clock: Clock) -> TuningResult:
    """Make the file of the job, or say why not; `clock` is for texts and training.

    Raises:
        ModelError: target or draft are not fit, or do not fit into the free memory.
        OSError: the file cannot be written.
    """
    check_memory_to_read(job.target, free_main_memory())
    torch.set_num_threads(job.threads)
    torch.manual_seed(job.seed)
    device = choose_device(job.device)
    target = read_target(job.target).to(device)
    recipe = _recipe(job, device)
    replay = _replay(job, recipe, target, tell, clock)
    split = _split(job.texts, replay)
    number_type = torch.float16 if device.type == "cuda" else torch.float32
    texts = read_again(split.learned, target, number_type)
    held_out = HeldOutAcceptance(target, read_again(split.held_out, target, torch.float32))
    model = read_existing_draft(job.draft, job.target, target.shape.vocab_size).to(device)
    batches = make_batches(texts, recipe.step_tokens, recipe.seed)
    student = Student(model, recipe, len(batches.groups), recipe.context_tokens)
    before = held_out.judged(student, recipe.weights)
    logits = TargetLogits(target, texts, batches.max_positions)
    loop = TrainingLoop(student, batches, logits, recipe, clock)
    tell.stage(f"tuning {job.draft.name} on {len(job.texts)} texts")
    loop.run(job.seconds, UNWATCHED)
    student.merge()
    after = held_out.judged(student, recipe.weights)
    write_draft(
        *(student.model, job.target, job.out),
        kind=recipe.weights,
        recipe=msgspec.json.encode(recipe).decode(),
        began_from=job.draft,
    )
    check_existing_draft(job.out, job.target)
    return TuningResult(_pairs(before, after), loop.num_steps)


def _recipe(job: TuningJob, device: torch.device) -> Recipe:
    recipe = Recipe(
        shape=existing_draft_shape(job.draft),
        weights=_file_weights(job.draft),
        minutes=_REPLAY_MINUTES[device.type],
        seed=job.seed,
        answer_tokens=MOST_ANSWER_TOKENS,
        prompt_tokens=MOST_PROMPT_TOKENS,
        step_tokens=_STEP_TOKENS,
        slots=_REPLAY_SLOTS[device.type],
        temperatures=(0.0, 1.0),
        writings=1,
    )
    return recipe.aligning(0)


def _file_weights(path: Path) -> FileWeights:
    """As most weights of a file are kept."""
    tensors = read_gguf_header(path).tensors
    bits = 8 * sum(one.num_bytes for one in tensors) / sum(one.num_values for one in tensors)
    return "Q4_0" if bits < (_Q4_0_BITS + 8.5) / 2 else "Q8_0"


def _replay(
    job: TuningJob, recipe: Recipe, target: LlamaModel, tell: Tell, clock: Clock
) -> KeptTexts:
    """Texts of the target's own, on its own questions: written once, and no user's."""
    if not job.replay.exists():
        order = DraftOrder(
            target=job.target,
            out=job.out,
            recipe=msgspec.structs.replace(recipe, prompt_tokens=MOST_PROMPT_TOKENS // 2),
            device=job.device,
            num_questions=_REPLAY_QUESTIONS,
        )
        order.work_dir.mkdir(parents=True, exist_ok=True)  # whose disk is looked at
        writer = TargetTexts(order, target, target.last_norm.device, tell, clock)
        order.work_dir.rmdir()
        keep_texts(writer.write(writer.prompts().learned), job.replay)
    return unpack_texts(job.replay)


def _split(seen: Sequence[TunedText], replay: KeptTexts) -> _Split:
    """Of each kind every eighth text is held out."""
    learned, held_out = KeptTexts([], [], []), KeptTexts([], [], [])

    def add(
        number: int, prompt: Sequence[int], domain: str, temperature: float, ids: Sequence[int]
    ) -> None:
        kept = held_out if number % _HELD_OUT_OF == 0 else learned
        kept.texts.append(KeptText(len(kept.prompts), temperature, list(ids)))
        kept.prompts.append(list(prompt))
        kept.domains.append(domain)

    for number, one in enumerate(seen):
        temperature = 0.0 if one.is_greedy else 1.0
        add(number, one.prompt_ids, SEEN, temperature, one.token_ids)
    # As much of the one as of the other: what is there more often is learned more.
    room = max(1, sum(len(one.token_ids) for one in seen))
    for number, text in enumerate(replay.texts):
        prompt = replay.prompts[text.prompt_index][-MOST_PROMPT_TOKENS:]
        tokens = text.tokens[:MOST_ANSWER_TOKENS]
        if tokens and room > 0:
            domain = replay.domains[text.prompt_index]
            add(number, prompt, domain, text.temperature, tokens)
            room -= len(tokens)
    if not learned.texts or not held_out.texts:
        raise ModelError("there are too few texts to learn from and to judge by")
    return _Split(learned, held_out)


def _pairs(before: Sequence[JudgedText], after: Sequence[JudgedText]) -> tuple[HeldOutPair, ...]:
    return tuple(
        HeldOutPair(old.domain, _mean(old), _mean(new))
        for old, new in zip(before, after, strict=True)
    )


def _mean(text: JudgedText) -> float:
    return sum(text.acceptance) / len(text.acceptance)
