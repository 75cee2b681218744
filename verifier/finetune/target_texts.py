"""What the target writes for one draft: questions of its own, answers, held-out texts."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch

from shared.daemon.resources.main_memory import free_main_memory
from shared.errors import ModelError, RequestRefused
from verifier.finetune.llama.llama_model import LlamaModel
from verifier.finetune.order import Clock, DraftOrder, Tell
from verifier.finetune.recipe.estimates import TargetSize, disk_bytes, plan_memory
from verifier.finetune.recipe.prompt_files import Prompt
from verifier.finetune.texts.asking import ask_itself
from verifier.finetune.texts.chat_frame import ChatFrame, chat_frame
from verifier.finetune.texts.held_out import write_held_out
from verifier.finetune.texts.long_prompts import long_prompts
from verifier.finetune.texts.target_tokenizer import TargetTokenizer
from verifier.finetune.texts.writing import WritingPlan, shuffled_questions, write_texts
from verifier.finetune.texts.written_texts import OWN_QUESTIONS, WrittenTexts
from verifier.torch_target.precision.torch_device import free_gpu_bytes

_STEPS_A_SECOND = 240  # more than any device takes
_QUESTION_TOKENS = 96
_HELD_OUT_SHARE = 0.1  # of the whole time, at most
_MAX_PASSES = 64
SEEDS = 1_000_003  # between those of two writings
_UNKNOWN_MEMORY = 1 << 33
_OWN_HELD_OUT = 24  # prompts, where the order holds none out
_LEARNED_OF_EACH = 8  # of so many prompts one is held out at most


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A whole prompt as tokens, and what kind of talk it begins."""

    token_ids: tuple[int, ...]
    domain: str


@dataclass(frozen=True, slots=True)
class Prompts:
    """What is asked of the target."""

    learned: list[EncodedPrompt]
    held_out: list[EncodedPrompt]


class TargetTexts:
    """Plans by the memory that is free, and writes."""

    def __init__(
        self,
        order: DraftOrder,
        target: LlamaModel,
        device: torch.device,
        tell: Tell,
        clock: Clock,
    ) -> None:
        self._order, self._target, self._tell, self._clock = order, target, tell, clock
        self.dtype = torch.float16 if device.type == "cuda" else torch.float32
        tell.stage("reading the vocabulary")
        self._tokenizer = TargetTokenizer(order.target)
        self._frame = chat_frame(self._tokenizer)
        size = TargetSize(
            target.shape.vocab_size,
            target.shape.hidden,
            sum(weight.numel() for weight in target.parameters()),
            target.shape.kv_numbers,
        )
        recipe = order.recipe
        wanted_steps = int(recipe.texts_seconds * _STEPS_A_SECOND) + recipe.answer_tokens
        free = free_gpu_bytes(device) if device.type == "cuda" else free_main_memory()
        free_bytes = _UNKNOWN_MEMORY if free is None else free
        self._memory = plan_memory(recipe, size, free_bytes, self.dtype.itemsize, wanted_steps)
        tell.say(str(self._memory))
        self._check_disk(size)

    def prompts(self, is_held_out: Collection[tuple[int, ...]] = ()) -> Prompts:
        """The target's own questions, other ones each time, and the prompts of the order.

        What is held out already stays so; else where the order holds none out, a few of these are.

        Raises:
            RequestRefused: there are none to learn from.
        """
        begun = self._order.recipe.begun
        starts = ("",) * max(1, len(begun)) + begun
        own = [EncodedPrompt(ids, OWN_QUESTIONS) for ids in self.ask(starts)]
        known = [*own, *self._encoded(self._order.recipe.prompt_tokens)]
        if not known:
            raise RequestRefused("the target asked itself nothing; give it prompts with --prompts")
        held_out = [self._around(prompt) for prompt in self._order.held_out]
        if not held_out and not is_held_out:
            held_out = known[:: max(_LEARNED_OF_EACH, len(known) // _OWN_HELD_OUT)][1:]
        kept = {prompt.token_ids for prompt in held_out} | set(is_held_out)
        learned = [prompt for prompt in known if prompt.token_ids not in kept]
        if not learned:
            raise RequestRefused("every prompt is held out, and nothing is left to learn from")
        return Prompts([*learned, *self._long(learned)], held_out)

    def _long(self, prompts: Sequence[EncodedPrompt]) -> list[EncodedPrompt]:
        frame, recipe = self._frame, self._order.recipe
        most_tokens = recipe.prompt_tokens - len(frame.around([]))
        between = self._tokenizer.encode_text("\n\n", adds_special=False)
        words = [frame.words_of(prompt.token_ids) for prompt in prompts]
        rows = long_prompts(words, between, recipe.long_prompts, most_tokens, recipe.seed)
        return [EncodedPrompt(frame.around(row), "long") for row in rows]

    def write(self, prompts: Sequence[EncodedPrompt], number: int = 0) -> WrittenTexts:
        """Answers to prompts that are learned from; `number`: how often it wrote before."""
        recipe = self._order.recipe
        plan = self._plan(self._memory.num_steps, recipe.texts_seconds)
        lengths = [len(prompt.token_ids) for prompt in prompts]
        wanted = plan.num_steps * plan.num_slots // max(1, recipe.answer_tokens // 2)
        # Passes beyond the first few have no greedy answers.
        num_passes = min(_MAX_PASSES, 2 + 2 * wanted // len(prompts))
        seed = recipe.seed + number * SEEDS
        questions = shuffled_questions(lengths, recipe.temperatures, num_passes, seed)
        num_own = sum(prompt.domain == OWN_QUESTIONS for prompt in prompts)
        self._tell.stage(f"the target answers {len(prompts)} prompts, {num_own} of them its own")
        started = self._clock()
        texts = write_texts(
            *(self._target, plan, *_columns(prompts), questions),
            clock=self._clock,
            advance=self._tell.advance,
        )
        seconds = self._clock() - started
        self._tell.say(
            f"{len(texts.places)} texts, {texts.num_tokens} tokens in {seconds:.1f} s, "
            f"{texts.num_tokens / seconds:.0f} tokens/s"
        )
        return texts

    def write_held_out(self, held_out: Sequence[EncodedPrompt]) -> WrittenTexts:
        """Texts on prompts that nothing is learned from, in every mode."""
        order, target = self._order, self._target
        prompts, domains = _columns(held_out)
        context = max(map(len, prompts)) + order.held_out_tokens
        cached = context * target.shape.kv_numbers * torch.float32.itemsize
        num_slots = max(1, min(len(prompts), self._memory.cache_bytes // cached))
        num_rounds = -(-3 * len(prompts) // num_slots) + 1
        plan = replace(
            self._plan(num_rounds * (order.held_out_tokens + 16), 0.0),
            num_slots=num_slots,
            context_tokens=context,
            answer_tokens=order.held_out_tokens,
            seconds=max(60.0, _HELD_OUT_SHARE * 60 * order.recipe.minutes),
            dtype=torch.float32,
        )
        self._tell.stage(f"the target answers {len(prompts)} held-out prompts in three modes")
        return write_held_out(
            *(target, plan, prompts, domains), clock=self._clock, advance=self._tell.advance
        )

    def ask(self, starts: Sequence[str]) -> list[tuple[int, ...]]:
        """Whole prompts of the target's own, all different, that begin with these words in turn."""
        order, recipe = self._order, self._order.recipe
        frames = [self._begun(start) for start in starts]
        plan = replace(
            self._plan(int(recipe.asking_seconds * _STEPS_A_SECOND), recipe.asking_seconds),
            context_tokens=max(len(frame.before) for frame in frames) + _QUESTION_TOKENS,
            answer_tokens=_QUESTION_TOKENS,
        )
        self._tell.stage("the target asks itself")
        num_questions = -(-order.num_questions // recipe.writings)
        asked = ask_itself(
            *(self._target, plan, frames, self._tokenizer.special_ids, num_questions),
            clock=self._clock,
            advance=self._tell.advance,
        )
        return [prompt for prompt in asked if len(prompt) <= recipe.prompt_tokens]

    def _begun(self, start: str) -> ChatFrame:
        words = self._tokenizer.encode_text(start, adds_special=False) if start else []
        return replace(self._frame, before=(*self._frame.before, *words))

    def _plan(self, num_steps: int, seconds: float) -> WritingPlan:
        recipe = self._order.recipe
        return WritingPlan(
            num_slots=recipe.slots,
            context_tokens=recipe.context_tokens,
            answer_tokens=recipe.answer_tokens,
            num_steps=num_steps,
            seconds=seconds,
            dtype=self.dtype,
            end_ids=self._tokenizer.end_ids,
        )

    def _encoded(self, most_tokens: int) -> list[EncodedPrompt]:
        """The prompts of the order that are short enough."""
        encoded = [self._around(prompt) for prompt in self._order.prompts]
        kept = [prompt for prompt in encoded if len(prompt.token_ids) <= most_tokens]
        if len(kept) < len(encoded):
            num_left_out = len(encoded) - len(kept)
            self._tell.say(f"{num_left_out} prompts are longer than {most_tokens} tokens: left out")
        return kept

    def _around(self, prompt: Prompt) -> EncodedPrompt:
        words = self._tokenizer.encode_text(prompt.text, adds_special=False)
        return EncodedPrompt(self._frame.around(words), prompt.domain)

    def _check_disk(self, size: TargetSize) -> None:
        order, directory = self._order, self._order.work_dir
        num_tokens = self._memory.num_steps * order.recipe.slots * order.recipe.writings
        needed = disk_bytes(order.recipe, size, order.target.stat().st_size, num_tokens)
        free = shutil.disk_usage(directory).free
        if free < needed:
            raise ModelError(
                f"{directory} has {free / 1e9:.1f} GB of disk left, and up to {needed / 1e9:.1f} "
                "are needed"
            )


def _columns(prompts: Sequence[EncodedPrompt]) -> tuple[list[tuple[int, ...]], list[str]]:
    return [prompt.token_ids for prompt in prompts], [prompt.domain for prompt in prompts]
