"""Acceptance of the draft as it is now, on held-out texts, in every mode that is judged.

It is computed from the draft's rounded weights by PyTorch: a look along the way, and how two
roundings of the same weights compare. What counts in the end is the file in llama.cpp.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shared.protocol.held_out_texts import JudgedMode
from verifier.finetune.llama.llama_model import LlamaModel, LlamaWeights, final_states
from verifier.finetune.texts.held_out import mode_of
from verifier.finetune.texts.written_texts import TextPlace, WrittenTexts
from verifier.finetune.training.distance import distances_by_torch
from verifier.finetune.training.sampled_overlap import cool_acceptance
from verifier.finetune.training.student import Student

_CHUNK = 512
_LOOK_CONTEXT = 1024  # longer prompts are left to the end
_LOOK_TEXTS = 35  # of a mode
_LOOK_MODES: tuple[JudgedMode, ...] = ("greedy", "1")


@dataclass(frozen=True, slots=True)
class JudgedText:
    """One held-out text: how likely each of its draft tokens is to be accepted."""

    domain: str
    mode: JudgedMode
    acceptance: tuple[float, ...]


class HeldOutAcceptance:
    """The held-out texts of a target."""

    def __init__(self, target: LlamaModel, texts: WrittenTexts) -> None:
        own = target.embedding if target.unembedding is None else target.unembedding
        self._unembedding, self._texts = own.detach(), texts
        short = [place for place in texts.places if _length(texts, place) <= _LOOK_CONTEXT]
        self._looked_at = [
            place
            for mode in _LOOK_MODES
            for place in _spread(texts, [p for p in short if mode_of(p) == mode], _LOOK_TEXTS)
        ]

    @property
    def prompts(self) -> tuple[tuple[int, ...], ...]:
        """What nothing is learned from."""
        return self._texts.prompts

    def look(self, student: Student) -> dict[JudgedMode, float]:
        """Means over the positions of a few texts, greedy and at temperature 1."""
        found: dict[JudgedMode, list[float]] = defaultdict(list)
        for text in self._judged(student, student.kind, self._looked_at):
            found[text.mode] += text.acceptance
        return {mode: sum(rates) / len(rates) for mode, rates in found.items()}

    def judged(self, student: Student, kind: str | None) -> list[JudgedText]:
        """All texts, by the student's weights rounded to a kind of file."""
        return self._judged(student, kind, self._texts.places)

    @torch.no_grad()
    def _judged(
        self, student: Student, kind: str | None, places: Iterable[TextPlace]
    ) -> list[JudgedText]:
        weights = student.rounded_weights(kind, torch.float32)
        return [
            JudgedText(
                self._texts.domain(place),
                mode_of(place),
                tuple(self._of_text(student.model, weights, place).tolist()),
            )
            for place in places
        ]

    def _of_text(self, model: LlamaModel, weights: LlamaWeights, place: TextPlace) -> Tensor:
        texts = self._texts
        prompt = torch.tensor(texts.prompts[place.prompt_index], device=texts.tokens.device)
        ids = torch.cat([prompt, texts.answer(place).long()])[None]
        rotation = model.rotation(ids.shape[1], weights.last_norm.dtype)
        states = final_states(model.shape, weights, rotation, ids)[0, len(prompt) - 1 : -1]
        unembedding = weights.unembedding.float()
        all_rows, found = texts.rows(place), []
        for first in range(0, len(states), _CHUNK):
            draft = states[first : first + _CHUNK].float() @ unembedding.T
            found.append(self._accepted(draft, all_rows[first : first + _CHUNK], mode_of(place)))
        return torch.cat(found)

    def _accepted(self, draft: Tensor, rows: Tensor, mode: JudgedMode) -> Tensor:
        if mode == "greedy":
            return (draft.argmax(-1) == self._texts.tokens[rows]).float()
        target = self._texts.states[rows].float() @ self._unembedding.float().T
        if mode == "0.8":
            return cool_acceptance(target, draft)
        return distances_by_torch(target, draft).acceptance


def mean_acceptance(texts: Sequence[JudgedText]) -> dict[JudgedMode, float]:
    """By mode, over the positions of each domain and then the domains, which count the same."""
    found: dict[JudgedMode, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for text in texts:
        found[text.mode][text.domain] += text.acceptance
    return {
        mode: sum(sum(rates) / len(rates) for rates in domains.values()) / len(domains)
        for mode, domains in found.items()
    }


def _length(texts: WrittenTexts, place: TextPlace) -> int:
    return len(texts.prompts[place.prompt_index]) + place.num_tokens


def _spread(texts: WrittenTexts, places: list[TextPlace], num_texts: int) -> list[TextPlace]:
    """As many of each domain, the first ones."""
    by_domain: dict[str, list[TextPlace]] = {}
    for place in sorted(places, key=lambda place: place.prompt_index):
        by_domain.setdefault(texts.domain(place), []).append(place)
    of_each = max(1, num_texts // max(1, len(by_domain)))
    return [place for found in by_domain.values() for place in found[:of_each]]
