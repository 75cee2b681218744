"""A model on its device: the one place where CPU or GPU is chosen for the forward pass."""

from __future__ import annotations

from typing import Any

import torch

from verifier.torch_target.forward.block_cache import CacheShape
from verifier.torch_target.forward.cpu_forward import CpuForward
from verifier.torch_target.forward.device_forward import DeviceForward
from verifier.torch_target.forward.torch_target import TorchTarget
from verifier.torch_target.loading.rotations import fix_rotations
from verifier.torch_target.parallel.joined_layers import join_layers
from verifier.torch_target.parallel.rank_group import RankGroup


def place_target(
    model: Any,  # a transformers causal language model; its classes are not annotated
    cache_shape: CacheShape,
    *,
    device: torch.device,
    dtype: torch.dtype,
    model_name: str,
    is_batch_invariant: bool = False,
    group: RankGroup | None = None,
) -> TorchTarget:
    """Take a model over and run a first round.

    `is_batch_invariant`: an item's logits do not depend on the rest of the round; a CPU's never do
    in float32. With a `group` the model is a rank's, and all ranks do this at the same time.

    Raises:
        ModelError: not all layers keep keys and values in our cache; or a model on a GPU cannot be
            made independent of the batch.
    """
    fix_rotations(model, cache_shape.context_tokens)
    if group is not None:
        join_layers(model, group)
    forward = _forward(model, cache_shape, device, dtype, is_batch_invariant, group)
    return TorchTarget(forward, model.config.get_text_config(), cache_shape, model_name)


def _forward(
    model: Any,
    cache_shape: CacheShape,
    device: torch.device,
    dtype: torch.dtype,
    is_batch_invariant: bool,
    group: RankGroup | None,
) -> DeviceForward:
    if device.type == "cpu":
        return CpuForward(model, cache_shape, dtype)
    # Triton is there only beside a CUDA build of torch.
    from verifier.torch_target.forward.gpu_forward import GpuForward

    return GpuForward(
        model,
        cache_shape,
        device,
        dtype,
        is_batch_invariant=is_batch_invariant,
        agree=None if group is None else group.most_seconds,
    )
