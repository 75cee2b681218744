"""Texts that a target wrote, with its final state before each of their tokens.

The states are the target's whole distributions: one product with its embedding away. They lie as
the steps of the decoder left them, so a text's rows have a stride. It must never copy them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
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
        return self.rows_on_cpu(place).to(self.tokens.device)

    def rows_on_cpu(self, place: TextPlace) -> Tensor:
        """The same in main memory."""
        return place.first_row + torch.arange(place.num_tokens) * self.stride

    def answer(self, place: TextPlace) -> Tensor:
        """The tokens of one text, int32 [num_tokens]."""
        return self.tokens[self.rows(place)]

    def sampled_states(self, seed: int) -> Tensor:
        """Some of all states [at most 8,192, hidden], that a draft's start is chosen by."""
        chance = torch.Generator().manual_seed(seed)
        rows = torch.cat([self.rows_on_cpu(place) for place in self.places])
        picked = rows[torch.randperm(len(rows), generator=chance)[:_SAMPLED_STATES]]
        return self.states[picked.to(self.states.device)]

    def domain(self, place: TextPlace) -> str:
        """What kind of talk a text is."""
        return self.domains[place.prompt_index]
