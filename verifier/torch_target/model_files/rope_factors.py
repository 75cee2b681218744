"""Factors in a GGUF file that slow down rotations, which transformers leaves out (Llama 3.1)."""

from __future__ import annotations

from typing import Any

import gguf
import torch

from shared.errors import ModelError
from verifier.torch_target.model_files.gguf_parts import GgufModel

ROPE_FACTORS = "rope_freqs.weight"


def apply_rope_factors(model: Any, gguf_model: GgufModel) -> None:
    """Divide the frequencies of all rotations by the file's factors, if it has some.

    Raises:
        ModelError: the model has no rotations of that size.
    """
    if all(tensor.name != ROPE_FACTORS for tensor in gguf_model.tensors):
        return
    tensors = gguf.GGUFReader(gguf_model.path).tensors
    factors = next(tensor for tensor in tensors if tensor.name == ROPE_FACTORS)
    divisors = torch.tensor(gguf.dequantize(factors.data, factors.tensor_type))
    modules = [module for module in model.modules() if hasattr(module, "inv_freq")]
    if not modules or any(module.inv_freq.shape != divisors.shape for module in modules):
        raise ModelError(
            f"cannot load {gguf_model.path} as a target: its {ROPE_FACTORS} does not fit the "
            "rotations of the model"
        )
    for module in modules:
        module.inv_freq.div_(divisors)
