"""The target answers prompts: slots are refilled until time, memory or prompts are used up.

Texts that time cuts off stay: the beginning of a text is as good to learn from as the whole.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import torch

from verifier.finetune.llama.llama_model import LlamaModel
from verifier.finetune.texts.slot_decoder import SlotDecoder
from verifier.finetune.texts.written_texts import TextPlace, WrittenTexts

Advance = Callable[[float], None]
Clock = Callable[[], float]

# Between two looks at which slots are free; a slot idles for half as many on average.
_STEPS_BETWEEN = 16
_SORTED_TOGETHER = 2048  # prompts of about one length are read together, but no prompt waits long


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt to be answered at a temperature."""

    prompt_index: int
    temperature: float


@dataclass(frozen=True, slots=True)
class WritingPlan:
    """How much is written at most."""

    num_slots: int
    context_tokens: int
    answer_tokens: int
    num_steps: int
    seconds: float
    dtype: torch.dtype
    end_ids: frozenset[int]


def write_texts(
    model: LlamaModel,
    plan: WritingPlan,
    prompts: Sequence[Sequence[int]],
    domains: Sequence[str],
    questions: Sequence[Question],
    *,
    clock: Clock,
    advance: Advance = lambda fraction: None,
) -> WrittenTexts:
    """Answers to the questions in their order, as far as the plan goes."""
    decoder = SlotDecoder(
        model,
        plan.dtype,
        num_slots=plan.num_slots,
        context_tokens=plan.context_tokens,
        num_steps=plan.num_steps,
        end_ids=plan.end_ids,
    )
    writing = _Writing(decoder, plan, prompts, questions)
    deadline = clock() + plan.seconds
    while writing.goes_on(is_late=clock() >= deadline):
        advance(min(1.0, writing.fraction(1.0 - (deadline - clock()) / plan.seconds)))
    decoder.free_caches()
    return WrittenTexts(
        prompts=tuple(tuple(prompt) for prompt in prompts),
        domains=tuple(domains),
        places=tuple(writing.places),
        tokens=decoder.tokens.flatten(),
        states=decoder.states.flatten(0, 1),
        stride=plan.num_slots,
    )


def shuffled_questions(
    lengths: Sequence[int], temperatures: Sequence[float], num_passes: int, seed: int
) -> list[Question]:
    """Every prompt once a pass, each time at another temperature; any part is a fair sample.

    At temperature 0 it is asked once: it would get the same answer.
    """
    chance = random.Random(seed)
    questions: list[Question] = []
    for number in range(num_passes):
        order = list(range(len(lengths)))
        chance.shuffle(order)
        for first in range(0, len(order), _SORTED_TOGETHER):
            together = sorted(order[first : first + _SORTED_TOGETHER], key=lengths.__getitem__)
            asked = [(i, temperatures[(i + number) % len(temperatures)]) for i in together]
            questions += [
                Question(index, temperature)
                for index, temperature in asked
                if temperature > 0 or number < len(temperatures)
            ]
    return questions


class _Writing:
    """Which slot writes which text."""

    def __init__(
        self,
        decoder: SlotDecoder,
        plan: WritingPlan,
        prompts: Sequence[Sequence[int]],
        questions: Sequence[Question],
    ) -> None:
        self._decoder, self._plan = decoder, plan
        self._prompts, self._questions = prompts, questions
        self._num_asked = 0
        self._begun: dict[int, tuple[Question, int]] = {}  # by slot: what, and at which step
        self.places: list[TextPlace] = []

    def goes_on(self, *, is_late: bool) -> bool:
        """Refill slots and write a few steps; False: all is written that will be."""
        if is_late:
            return self._end()
        self._refill()
        num_steps = min(_STEPS_BETWEEN, self._decoder.num_steps - self._decoder.steps_done)
        if not self._begun or num_steps <= 0:
            return self._end()
        self._decoder.run(num_steps)
        self._gather(*self._decoder.progress())
        return True

    def fraction(self, of_time: float) -> float:
        """How much is done, by what ends it first."""
        of_steps = self._decoder.steps_done / self._decoder.num_steps
        of_questions = len(self.places) / max(1, len(self._questions))
        return max(of_time, of_steps, of_questions)

    def _refill(self) -> None:
        free = [slot for slot in range(self._decoder.num_slots) if slot not in self._begun]
        asked = self._questions[self._num_asked : self._num_asked + len(free)]
        self._num_asked += len(asked)
        if not asked:
            return
        slots = free[: len(asked)]
        prompts = [self._prompts[question.prompt_index] for question in asked]
        temperatures = [question.temperature for question in asked]
        self._decoder.begin(slots, prompts, temperatures, self._plan.answer_tokens)
        for slot, question in zip(slots, asked, strict=True):
            self._begun[slot] = (question, self._decoder.steps_done)

    def _end(self) -> bool:
        """Take the texts that were begun as far as they are."""
        _, written = self._decoder.progress()
        self._gather([False] * self._decoder.num_slots, written)
        return False

    def _gather(self, live: Sequence[bool], written: Sequence[int]) -> None:
        """Take note of the texts that ended."""
        ended: Iterator[int] = (slot for slot in list(self._begun) if not live[slot])
        for slot in ended:
            question, first_step = self._begun.pop(slot)
            if written[slot]:
                first_row = first_step * self._decoder.num_slots + slot
                place = (question.prompt_index, question.temperature, first_row, written[slot])
                self.places.append(TextPlace(*place))


def words_of(texts: WrittenTexts, place: TextPlace, end_ids: Collection[int]) -> list[int] | None:
    """The tokens of an answer that ended by itself, without its end; None: it did not."""
    token_ids: list[int] = texts.answer(place).tolist()
    return token_ids[:-1] if token_ids and token_ids[-1] in end_ids else None
