"""Prompts for tiny architectures, and what transformers writes after them."""

from __future__ import annotations

from typing import Any

import torch

from tests.support.models.architectures import VOCAB_SIZE, Architecture


def prompts_of(architecture: Architecture) -> list[list[int]]:
    """The same random prompts every time."""
    generator = torch.Generator().manual_seed(7)
    return [
        torch.randint(2, VOCAB_SIZE, (length,), generator=generator).tolist()
        for length in architecture.prompt_lengths
    ]


def generated(model: Any, prompt: list[int], num_tokens: int) -> list[int]:
    """Greedy text by transformers alone: its own attention, cache and loop."""
    ids = torch.tensor([prompt])
    mask = torch.ones_like(ids)
    output = model.generate(
        ids, attention_mask=mask, do_sample=False, max_new_tokens=num_tokens, eos_token_id=None
    )
    tokens: list[int] = output[0, len(prompt) :].tolist()
    return tokens
