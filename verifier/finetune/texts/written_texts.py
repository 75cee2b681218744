"""Texts that a target wrote, with its final state before each of their tokens.

The states are the target's whole distributions: one product with its embedding away. They lie as
the steps of the decoder left them, so a text's rows have a stride. It must never copy them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

OWN_QUESTIONS = "self"  # the domain of what a target asks itself
_SAMPLED_STATES = 8192


@dataclass(frozen=True, slots=True)
class TextPlace:
    """One text: what was asked, and where its answer lies."""

    prompt_index: int
    temperature: float
    first_row: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class WrittenTexts:
    """Answers to prompts; row `first_row + k * stride` belongs to a text's token k."""

    prompts: tuple[tuple[int, ...], ...]
    domains: tuple[str, ...]  # of each prompt
    places: tuple[TextPlace, ...]
    tokens: Tensor  # int32 [rows]
    states: Tensor  # [rows, hidden]: what the token was drawn from
    stride: int

    @property
    def num_tokens(self) -> int:
        """Of all answers."""
        return sum(place.num_tokens for place in self.places)

    def rows(self, place: TextPlace) -> Tensor:
        """The rows of one text, int64 [num_tokens], on the device of the texts."""
        rows = place.first_row + torch.arange(place.num_tokens) * self.stride
        return rows.to(self.tokens.device)

    def answer(self, place: TextPlace) -> Tensor:
        """The tokens of one text, int32 [num_tokens]."""
        return self.tokens[self.rows(place)]

    def answers(self, places: Sequence[TextPlace]) -> list[NDArray[np.int32]]:
        """The tokens of many texts, in main memory, all at once: each call copies all tokens."""
        columns = self.tokens.view(-1, self.stride).T.contiguous().cpu().numpy()
        found = []
        for place in places:
            first, column = divmod(place.first_row, self.stride)
            found.append(columns[column, first : first + place.num_tokens])
        return found

    def sampled_states(self, seed: int) -> Tensor:
        """Some of all states [at most 8,192, hidden], that a draft's start is chosen by."""
        chance = torch.Generator().manual_seed(seed)
        lengths, first_rows = torch.tensor([[p.num_tokens, p.first_row] for p in self.places]).T
        ends = lengths.cumsum(0)
        picked = torch.randperm(int(ends[-1]), generator=chance)[:_SAMPLED_STATES]
        text = torch.searchsorted(ends, picked, right=True)
        rows = first_rows[text] + (picked - (ends - lengths)[text]) * self.stride
        return self.states[rows.to(self.states.device)]

    def domain(self, place: TextPlace) -> str:
        """What kind of talk a text is."""
        return self.domains[place.prompt_index]


def padded(
    prompts: Sequence[Sequence[int]], answers: Sequence[NDArray[np.int32]], width: int
) -> Tensor:
    """Prompts with their answers, int32 [texts, width], in main memory; behind them zeros."""
    rows = np.zeros((len(prompts), width), np.int32)
    for row, prompt, answer in zip(rows, prompts, answers, strict=True):
        row[: len(prompt)] = prompt
        row[len(prompt) : len(prompt) + len(answer)] = answer
    return torch.from_numpy(rows)
