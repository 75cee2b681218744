"""A model in 16 bits rotates positions as exactly as one in 32."""

from __future__ import annotations

import torch

from tests.support.models.tiny_models import tiny_llama
from verifier.torch_target.forward.block_cache import CacheShape
from verifier.torch_target.loading.placement import place_target


def test_frequencies_of_rotations_stay_in_32_bits() -> None:
    model = tiny_llama()
    frequencies = model.model.rotary_emb.inv_freq.clone()
    shape = CacheShape(num_blocks=3, block_tokens=4, context_tokens=12)
    cpu = torch.device("cpu")
    place_target(model, shape, device=cpu, dtype=torch.bfloat16, model_name="tiny")
    assert torch.equal(frequencies, model.model.rotary_emb.inv_freq)
    assert torch.bfloat16 == model.model.embed_tokens.weight.dtype
