"""How much memory a model of transformers takes: its weights, a round, a token of its cache."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import torch

from verifier.target.precision import Quantisation
from verifier.torch_target.kernels.head_shape import HeadShape
from verifier.torch_target.loading.gpu_limits import (
    check_head_size,
    check_weights_fit,
    out_of_memory,
)
from verifier.torch_target.loading.kv_memory import (
    TargetShape,
    cache_tokens_of_cpu,
    cache_tokens_of_gpu,
)
from verifier.torch_target.loading.quantisation import quantisable
from verifier.torch_target.loading.torch_device import free_gpu_bytes

logger = logging.getLogger(__name__)


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
    check_head_size(head_size(model.config.get_text_config()))
    needed_bytes, free_bytes = weight_bytes(model, dtype, quantisation), free_gpu_bytes(device)
    check_weights_fit(needed_bytes, free_bytes)
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise out_of_memory(needed_bytes, free_bytes) from error
    # Merged projections leave holes of their old sizes, which CUDA graphs could not use.
    torch.cuda.empty_cache()


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
    num_tokens = cache_tokens_of_gpu(shape, free_bytes, max_round_tokens, memory_fraction)
    logger.info("the key/value cache has room for %d tokens", num_tokens)
    return num_tokens


def weight_bytes(model: Any, dtype: torch.dtype, quantisation: Quantisation) -> int:
    """Bytes of the weights once they are on the device."""
    eight_bit = {id(linear.weight) for linear in quantisable(model).values()}
    return sum(
        parameter.numel()
        * (1 if quantisation != "none" and id(parameter) in eight_bit else dtype.itemsize)
        for parameter in model.parameters()
    )


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
    by_config = 2 * config.num_hidden_layers * num_kv_heads * head_size(config)
    hidden_size = int(config.hidden_size)
    return TargetShape(
        vocab_size=int(config.vocab_size),
        hidden_size=hidden_size,
        intermediate_size=int(getattr(config, "intermediate_size", None) or 4 * hidden_size),
        kv_values_per_token=sum(int(p.out_features) for p in projections) or by_config,
        element_bytes=dtype.itemsize,
    )


def head_size(config: Any) -> int:
    """Size of the keys of an attention head, by a model's text configuration."""
    if getattr(config, "qk_nope_head_dim", None):  # of latent attention; head_dim is a part of it
        return int(config.qk_nope_head_dim + config.qk_rope_head_dim)
    size = getattr(config, "head_dim", None)
    return int(size or config.hidden_size // config.num_attention_heads)
