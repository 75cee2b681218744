"""Texts to learn from, on the device, in buckets of about one length; a step reads one bucket.

Every step of a bucket has the same sizes, so that one CUDA graph serves them all: batches are
written into the same tensors. Only answers are learned; prompts are read.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from shared.errors import ModelError
from verifier.finetune.texts.written_texts import OWN_QUESTIONS, TextPlace, WrittenTexts, padded

_WIDTH_PARTS = (6, 3, 2, 1)  # of the longest text
WIDTH_STEP = 32  # widths are multiples of it
_QUANTILE = 0.9  # of the answers' tokens in a step; what is beyond is left out of that step
_SIZE_TRIALS = 200


class Bucket:
    """Texts of about one length, and the tensors of its next step."""

    def __init__(
        self,
        texts: WrittenTexts,
        places: Sequence[TextPlace],
        groups: Sequence[int],
        width: int,
        num_rows: int,
        generator: torch.Generator,
    ) -> None:
        device = texts.states.device
        self.width, self.num_rows, self._generator = width, num_rows, generator
        self._stride = texts.stride
        prompts = [texts.prompts[place.prompt_index] for place in places]
        self._ids = padded(prompts, texts.answers(places), width).to(device)
        columns = [
            [len(texts.prompts[place.prompt_index]), place.num_tokens, place.first_row, group]
            for place, group in zip(places, groups, strict=True)
        ]
        self._columns = torch.tensor(columns, device=device).T.contiguous()
        self.num_positions = self._common_positions()
        self.token_ids = torch.zeros(num_rows, width, dtype=torch.int64, device=device)
        numbers = torch.zeros(4, self.num_positions, dtype=torch.int64, device=device)
        # Where each position is in the flattened batch, in the states, its text and its group.
        self.flat, self.state_rows, self.text, self.group = numbers
        self.counts = torch.zeros(self.num_positions, device=device)  # 1: a token, 0: padding
        self.restart()

    @property
    def num_texts(self) -> int:
        return len(self._ids)

    def restart(self) -> None:
        """Begin another pass, shuffled by the generator as it is now."""
        self._order, self._at = torch.empty(0, dtype=torch.int64), 0

    def draw(self) -> None:
        """Put the next batch of a shuffled pass into the tensors of the step."""
        if self._at + self.num_rows > len(self._order):
            order = torch.randperm(self.num_texts, generator=self._generator)
            self._order, self._at = order.to(self._ids.device), 0
        chosen = self._order[self._at : self._at + self.num_rows]
        self._at += self.num_rows
        self.token_ids.copy_(self._ids[chosen])
        prompt_tokens, answer_tokens, first_rows, groups = self._columns[:, chosen]
        ends = answer_tokens.cumsum(0)
        position = torch.arange(self.num_positions, device=ends.device)
        text = torch.searchsorted(ends, position, right=True)
        is_there = text < self.num_rows
        text = text.clamp(max=self.num_rows - 1)
        step = torch.where(is_there, position - (ends - answer_tokens)[text], 0)
        self.counts.copy_(is_there.float())
        self.text.copy_(torch.where(is_there, text, self.num_rows))
        # The state before a token predicts it: the first answer's is that of the prompt's last.
        self.flat.copy_(text * self.width + prompt_tokens[text] - 1 + step)
        self.state_rows.copy_(first_rows[text] + step * self._stride)
        self.group.copy_(groups[text])

    def _common_positions(self) -> int:
        """Positions of a step, of which few steps have more."""
        answers = self._columns[1].float().cpu()
        picks = torch.randint(
            self.num_texts, (_SIZE_TRIALS, self.num_rows), generator=self._generator
        )
        common = float(answers[picks].sum(1).quantile(_QUANTILE))
        return max(self.num_rows, -(-int(common) // 64) * 64)


@dataclass(frozen=True, slots=True)
class Batches:
    """All buckets, and how often each comes."""

    buckets: tuple[Bucket, ...]
    shares: tuple[float, ...]
    groups: tuple[str, ...]  # domains of the texts: each has its own goodput
    chance: random.Random
    generator: torch.Generator  # that all buckets shuffle by

    def restart(self, seed: int) -> None:
        """From here on the batches that every restart with this seed brings."""
        self.generator.manual_seed(seed)
        self.chance.seed(seed)
        for bucket in self.buckets:
            bucket.restart()

    @property
    def max_positions(self) -> int:
        """Of the largest step."""
        return max(bucket.num_positions for bucket in self.buckets)

    def next_index(self) -> int:
        """Of the bucket of the next step."""
        (index,) = self.chance.choices(range(len(self.buckets)), self.shares)
        return index


def make_batches(texts: WrittenTexts, step_tokens: int, seed: int) -> Batches:
    """Buckets whose steps have some `step_tokens` tokens, prompts included.

    Raises:
        ModelError: there are too few texts for one step.
    """
    generator = torch.Generator().manual_seed(seed)
    longest = max((_total(texts, place) for place in texts.places), default=0)
    groups = groups_of(texts)
    index_of = {group: index for index, group in enumerate(groups)}
    buckets, at_least = [], 0
    for part in _WIDTH_PARTS:
        width = -(-longest // (part * WIDTH_STEP)) * WIDTH_STEP
        fitting = [p for p in texts.places if at_least < _total(texts, p) <= width]
        at_least = width
        if not fitting:
            continue
        num_rows = max(1, min(step_tokens // width, len(fitting)))
        found = [index_of[texts.domain(place)] for place in fitting]
        buckets.append(Bucket(texts, fitting, found, width, num_rows, generator))
    if not buckets:
        raise ModelError("the target wrote no text to learn from; more --minutes give it time")
    steps = [bucket.num_texts / bucket.num_rows for bucket in buckets]
    shares = tuple(number / sum(steps) for number in steps)
    return Batches(tuple(buckets), shares, groups, random.Random(seed), generator)


def groups_of(texts: WrittenTexts) -> tuple[str, ...]:
    """Kinds of talk that a draft learns; those of its other texts are the same."""
    return tuple(sorted({OWN_QUESTIONS, *texts.domains}))


def _total(texts: WrittenTexts, place: TextPlace) -> int:
    return len(texts.prompts[place.prompt_index]) + place.num_tokens
