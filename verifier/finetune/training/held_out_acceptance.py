"""Acceptance of the draft as it is now, on held-out texts: a look along the way, not the judgement.

It is computed from the draft's weights by PyTorch; what counts is the file in llama.cpp.
"""

from __future__ import annotations

import torch
from torch import Tensor

from verifier.finetune.llama.llama_model import LlamaModel, LlamaWeights, final_states
from verifier.finetune.texts.held_out import mode_of
from verifier.finetune.texts.written_texts import TextPlace, WrittenTexts
from verifier.finetune.training.distance import distances_by_torch
from verifier.finetune.training.student import Student

_CHUNK = 512
_MAX_CONTEXT = 1024  # longer prompts are left to the judgement
_TEXTS_A_MODE = 35


class HeldOutLook:
    """A few texts of each domain, greedy and at temperature 1."""

    def __init__(self, target: LlamaModel, texts: WrittenTexts) -> None:
        own = target.embedding if target.unembedding is None else target.unembedding
        self._unembedding, self._texts = own.detach(), texts
        fitting = [place for place in texts.places if _length(texts, place) <= _MAX_CONTEXT]
        self._places = {
            mode: _spread(texts, [place for place in fitting if mode_of(place) == mode])
            for mode in ("greedy", "1")
        }

    @torch.no_grad()
    def acceptance(self, student: Student) -> dict[str, float]:
        """By mode, over all positions."""
        found, weights = {}, student.rounded_weights()
        for mode, places in self._places.items():
            if places:
                rows = torch.cat([self._of_text(student, weights, place, mode) for place in places])
                found[mode] = float(rows.mean())
        return found

    def _of_text(
        self, student: Student, weights: LlamaWeights, place: TextPlace, mode: str
    ) -> Tensor:
        texts, model = self._texts, student.model
        prompt = torch.tensor(texts.prompts[place.prompt_index], device=texts.tokens.device)
        answer = texts.answer(place).long()
        ids = torch.cat([prompt, answer])[None]
        rotation = model.rotation(ids.shape[1], weights.attention_in.dtype)
        states = final_states(model.shape, weights, rotation, ids)[0, len(prompt) - 1 : -1]
        unembedding = weights.unembedding.float()
        all_rows, found = texts.rows(place), []
        for first in range(0, len(states), _CHUNK):
            rows = all_rows[first : first + _CHUNK]
            draft = states[first : first + _CHUNK].float() @ unembedding.T
            if mode == "greedy":
                found.append((draft.argmax(-1) == texts.tokens[rows]).float())
            else:
                target = texts.states[rows].float() @ self._unembedding.float().T
                found.append(distances_by_torch(target, draft).acceptance)
        return torch.cat(found)


def _length(texts: WrittenTexts, place: TextPlace) -> int:
    return len(texts.prompts[place.prompt_index]) + place.num_tokens


def _spread(texts: WrittenTexts, places: list[TextPlace]) -> list[TextPlace]:
    """As many of each domain, the first ones."""
    by_domain: dict[str, list[TextPlace]] = {}
    for place in sorted(places, key=lambda place: place.prompt_index):
        by_domain.setdefault(texts.domain(place), []).append(place)
    of_each = max(1, _TEXTS_A_MODE // max(1, len(by_domain)))
    return [place for found in by_domain.values() for place in found[:of_each]]
