"""How much memory a model of transformers takes: its weights, a round, a token of its cache."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch

from shared.daemon.resources.main_memory import free_main_memory
from verifier.target.precision import Quantisation
from verifier.torch_target.kernels.head_shape import HeadShape
from verifier.torch_target.layers.checkpoint_weights import CheckpointLinear
from verifier.torch_target.loading.kv_memory import (
    TargetShape,
    cache_tokens_of_cpu,
    cache_tokens_of_gpu,
    check_main_memory,
)
from verifier.torch_target.precision.gpu_limits import (
    check_head_size,
    check_weights_fit,
    out_of_memory,
)
from verifier.torch_target.precision.quantisation import BITS_PER_WEIGHT, layers_by_kind
from verifier.torch_target.precision.torch_device import free_gpu_bytes


def check_before_reading(
    outline: Any,
    dtype: torch.dtype,
    quantisation: Quantisation,
    device: torch.device,
    cpu_cache_tokens: int,
) -> None:
    """There is memory for a model of which only the shapes are known, and on a CPU for its cache.

    Raises:
        ModelError: there is not, or the GPU cannot compute such a model.
    """
    is_on_cpu = device.type != "cuda"
    cache_bytes = 0
    if is_on_cpu:
        cache_bytes = cpu_cache_tokens * target_shape(outline, dtype).cached_token_bytes
    free_bytes = free_main_memory()
    if free_bytes is not None:
        # In its full dtype, also where it is quantised on its device later.
        check_main_memory(weight_bytes(outline, dtype, "none"), cache_bytes, free_bytes)
    if not is_on_cpu:
        _check_gpu_has_room(outline, dtype, quantisation, device)


@contextlib.contextmanager
def gpu_has_room(
    model: Any, dtype: torch.dtype, quantisation: Quantisation, device: torch.device
) -> Iterator[None]:
    """Around all that moves a model to a device; on a CPU nothing is checked.

    Raises:
        ModelError: the GPU has no room for the weights, or ran out of memory in the block.
    """
    if device.type != "cuda":
        yield
        return
    needed_bytes, free_bytes = _check_gpu_has_room(model, dtype, quantisation, device)
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise out_of_memory(needed_bytes, free_bytes) from error
    # Merged projections leave holes of their old sizes, which CUDA graphs could not use.
    torch.cuda.empty_cache()


def _check_gpu_has_room(
    model: Any, dtype: torch.dtype, quantisation: Quantisation, device: torch.device
) -> tuple[int, int]:
    """Bytes that are needed, and that are free."""
    for head_size in sorted(head_sizes(model.config.get_text_config())):
        check_head_size(head_size)
    needed_bytes, free_bytes = weight_bytes(model, dtype, quantisation), free_gpu_bytes(device)
    check_weights_fit(needed_bytes, free_bytes)
    return needed_bytes, free_bytes


def cache_tokens(
    model: Any,
    dtype: torch.dtype,
    device: torch.device,
    *,
    context_tokens: int,
    max_round_tokens: int,
    memory_fraction: float,
) -> int:
    """Tokens of a cache for a model that is on its device already.

    Raises:
        ModelError: the GPU has no memory left for it.
    """
    if device.type != "cuda":
        return cache_tokens_of_cpu(context_tokens, max_round_tokens)
    shape, free_bytes = target_shape(model, dtype), free_gpu_bytes(device)
    return cache_tokens_of_gpu(shape, free_bytes, max_round_tokens, memory_fraction)


def weight_bytes(model: Any, dtype: torch.dtype, quantisation: Quantisation) -> int:
    """Bytes of the weights once they are on the device."""
    whole_bits = 8.0 * dtype.itemsize
    bits = {
        id(layer.weight): BITS_PER_WEIGHT.get(kind, whole_bits)
        for layers, kind in layers_by_kind(model, quantisation)
        for layer in layers.values()
    }
    num_bits: float = sum(
        parameter.numel() * bits.get(id(parameter), whole_bits) for parameter in model.parameters()
    )
    kept_bytes = sum(
        module.quantised.num_bytes
        for module in model.modules()
        if isinstance(module, CheckpointLinear)
    )
    return math.ceil(num_bits / 8) + kept_bytes


def target_shape(model: Any, dtype: torch.dtype) -> TargetShape:
    """What decides how much memory a round and a token of cache take.

    Layers may differ, so the projections of keys and values are asked where a model has them.
    """
    config = model.config.get_text_config()
    projections = [
        getattr(module, name)
        for module in model.modules()
        for name in ("k_proj", "v_proj")
        if hasattr(getattr(module, name, None), "out_features")
    ]
    num_kv_heads = HeadShape.of(config).num_kv_heads
    by_config = 2 * config.num_hidden_layers * num_kv_heads * max(head_sizes(config))
    hidden_size = int(config.hidden_size)
    return TargetShape(
        vocab_size=int(config.vocab_size),
        hidden_size=hidden_size,
        intermediate_size=int(getattr(config, "intermediate_size", None) or 4 * hidden_size),
        kv_values_per_token=sum(int(p.out_features) for p in projections) or by_config,
        element_bytes=dtype.itemsize,
    )


def head_sizes(config: Any) -> set[int]:
    """Sizes of the keys of attention heads, by a model's text configuration; layers may differ."""
    if getattr(config, "is_heterogeneous", False):
        return {size for layer in config.per_layer_config for size in head_sizes(layer)}
    if getattr(config, "qk_nope_head_dim", None):  # of latent attention; head_dim is a part of it
        return {int(config.qk_nope_head_dim + config.qk_rope_head_dim)}
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    # Of Gemma 4's layers that see all, where transformers has no configurations of layers yet.
    return {int(size), int(getattr(config, "global_head_dim", None) or size)}
