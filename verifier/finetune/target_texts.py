"""What the target writes for one draft: questions of its own, answers, held-out texts."""

from __future__ import annotations

import shutil
from dataclasses import replace

import torch

from shared.daemon.resources.main_memory import free_main_memory
from shared.errors import ModelError, RequestRefused
from verifier.finetune.llama.llama_model import LlamaModel
from verifier.finetune.order import Clock, DraftOrder, Tell
from verifier.finetune.recipe.estimates import TargetSize, disk_bytes, plan_memory
from verifier.finetune.texts.asking import ask_itself
from verifier.finetune.texts.chat_frame import chat_frame
from verifier.finetune.texts.held_out import write_held_out
from verifier.finetune.texts.target_tokenizer import TargetTokenizer
from verifier.finetune.texts.writing import WritingPlan, shuffled_questions, write_texts
from verifier.finetune.texts.written_texts import WrittenTexts
from verifier.torch_target.precision.torch_device import free_gpu_bytes

_STEPS_A_SECOND = 240  # more than any device takes
_QUESTION_TOKENS = 96
_HELD_OUT_SHARE = 0.1  # of the whole time, at most
_MAX_PASSES = 64
_UNKNOWN_MEMORY = 1 << 33


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

    def write(self) -> WrittenTexts:
        """Answers to the target's own questions and to the prompts of the order.

        Raises:
            RequestRefused: there are no prompts, and the target asked nothing.
        """
        recipe = self._order.recipe
        own = self._ask()
        given = self._encoded(recipe.prompt_tokens)
        prompts = [*own, *(prompt for prompt, _ in given)]
        domains = [*("self" for _ in own), *(domain for _, domain in given)]
        if not prompts:
            raise RequestRefused("the target asked itself nothing; give it prompts with --prompts")
        plan = self._plan(self._memory.num_steps, recipe.texts_seconds)
        lengths = [len(prompt) for prompt in prompts]
        wanted = plan.num_steps * plan.num_slots // max(1, recipe.answer_tokens // 2)
        num_passes = min(_MAX_PASSES, 1 + wanted // len(prompts))
        questions = shuffled_questions(lengths, recipe.temperatures, num_passes, recipe.seed)
        self._tell.stage(f"the target answers {len(prompts)} prompts, {len(own)} of them its own")
        started = self._clock()
        texts = write_texts(
            *(self._target, plan, prompts, domains, questions),
            clock=self._clock,
            advance=self._tell.advance,
        )
        seconds = self._clock() - started
        self._tell.say(
            f"{len(texts.places)} texts, {texts.num_tokens} tokens in {seconds:.1f} s, "
            f"{texts.num_tokens / seconds:.0f} tokens/s"
        )
        return texts

    def write_held_out(self) -> WrittenTexts:
        """Texts on the held-out prompts, in every mode."""
        order, target = self._order, self._target
        encoded = [(self._around(p.text), p.domain) for p in order.held_out]
        prompts, domains = [ids for ids, _ in encoded], [domain for _, domain in encoded]
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

    def _ask(self) -> list[tuple[int, ...]]:
        order, recipe = self._order, self._order.recipe
        plan = replace(
            self._plan(int(recipe.asking_seconds * _STEPS_A_SECOND), recipe.asking_seconds),
            context_tokens=len(self._frame.before) + _QUESTION_TOKENS,
            answer_tokens=_QUESTION_TOKENS,
        )
        self._tell.stage("the target asks itself")
        asked = ask_itself(
            *(self._target, plan, self._frame, self._tokenizer.special_ids, order.num_questions),
            clock=self._clock,
            advance=self._tell.advance,
        )
        return [prompt for prompt in asked if len(prompt) <= recipe.prompt_tokens]

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

    def _encoded(self, most_tokens: int) -> list[tuple[tuple[int, ...], str]]:
        """The prompts of the order that are short enough, with their domains."""
        encoded = [(self._around(prompt.text), prompt.domain) for prompt in self._order.prompts]
        kept = [pair for pair in encoded if len(pair[0]) <= most_tokens]
        if len(kept) < len(encoded):
            num_left_out = len(encoded) - len(kept)
            self._tell.say(f"{num_left_out} prompts are longer than {most_tokens} tokens: left out")
        return kept

    def _around(self, words: str) -> tuple[int, ...]:
        return self._frame.around(self._tokenizer.encode_text(words, adds_special=False))

    def _check_disk(self, size: TargetSize) -> None:
        order, directory = self._order, self._order.work_dir
        num_tokens = self._memory.num_steps * order.recipe.slots
        needed = disk_bytes(order.recipe, size, order.target.stat().st_size, num_tokens)
        free = shutil.disk_usage(directory).free
        if free < needed:
            raise ModelError(
                f"{directory} has {free / 1e9:.1f} GB of disk left, and up to {needed / 1e9:.1f} "
                "are needed"
            )
