"""The target's whole distributions from its kept states: one product, and no run of the target."""

from __future__ import annotations

import torch
from torch import Tensor

from verifier.finetune.llama.llama_model import LlamaModel
from verifier.finetune.texts.written_texts import WrittenTexts


class TargetLogits:
    """Logits for one step at a time, always in the same memory."""

    def __init__(self, target: LlamaModel, texts: WrittenTexts, max_positions: int) -> None:
        own = target.embedding if target.unembedding is None else target.unembedding
        dtype = torch.float16 if own.is_cuda else torch.float32
        self._states = texts.states
        self._unembedding = own.detach().to(dtype)
        self._rows = torch.empty(max_positions, len(own), dtype=dtype, device=own.device)

    def rows(self, num_positions: int) -> Tensor:
        """Where the logits of so many positions are [num_positions, vocab_size]."""
        return self._rows[:num_positions]

    @torch.no_grad()
    def fill(self, state_rows: Tensor) -> Tensor:
        """The logits of these rows of states."""
        rows = self.rows(len(state_rows))
        states = self._states[state_rows].to(rows.dtype)
        torch.mm(states, self._unembedding.T, out=rows)
        return rows
