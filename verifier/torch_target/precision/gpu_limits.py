"""What a GPU cannot do for a target, said in one sentence before hours are lost.

Numbers in, a sentence out: this module must never import torch, so that every limit is tested
without a GPU.
"""

from __future__ import annotations

from shared.daemon.resources.main_memory import gib
from shared.errors import ModelError

Capability = tuple[int, int]
"""NVIDIA's compute capability, such as (9, 0) of a Hopper GPU."""

BFLOAT16_CAPABILITY: Capability = (8, 0)
FP8_CAPABILITY: Capability = (8, 9)
# What the attention kernel can lay out: a tensor core takes 16 columns at least, and two steps of
# keys and values of more than 256 columns do not fit into the memory of one core.
MIN_HEAD_SIZE, MAX_HEAD_SIZE = 16, 256


def check_gpu(name: str, num_gpus: int) -> None:
    """The GPU of that name (cuda or cuda:N) is there.

    Raises:
        ModelError: it is not.
    """
    if not num_gpus:
        raise ModelError(f"target.device is {name}, but torch sees no GPU here")
    number = int(name.partition(":")[2] or 0)
    if number >= num_gpus:
        present = "cuda:0 is" if num_gpus == 1 else f"cuda:0 to cuda:{num_gpus - 1} are"
        raise ModelError(f"target.device is {name}, but only {present} here")


def gpu_dtype(name: str, capability: Capability) -> str:
    """The dtype to run in: `name`, or for auto the best 16-bit one that the GPU has.

    Raises:
        ModelError: the GPU cannot compute in it.
    """
    has_bfloat16 = capability >= BFLOAT16_CAPABILITY
    if name == "auto":
        return "bfloat16" if has_bfloat16 else "float16"
    if name == "bfloat16" and not has_bfloat16:
        raise ModelError(
            f"target.dtype is bfloat16, which this GPU of compute capability {_text(capability)} "
            f"lacks (it came with {_text(BFLOAT16_CAPABILITY)}); set target.dtype = float16"
        )
    return name


def check_quantisation(name: str, capability: Capability) -> None:
    """The GPU can multiply with weights of that kind.

    Raises:
        ModelError: it has no 8-bit floats.
    """
    if name == "fp8" and capability < FP8_CAPABILITY:
        raise ModelError(
            f"target.quantisation is fp8, which this GPU of compute capability {_text(capability)} "
            f"lacks (it came with {_text(FP8_CAPABILITY)}); set target.quantisation = int8"
        )


def check_head_size(head_size: int) -> None:
    """The attention kernel takes heads of that size.

    Raises:
        ModelError: they are too small or too large.
    """
    if not MIN_HEAD_SIZE <= head_size <= MAX_HEAD_SIZE:
        raise ModelError(
            f"the target's attention heads have a size of {head_size}, on a GPU they must have "
            f"{MIN_HEAD_SIZE} to {MAX_HEAD_SIZE}; target.device = cpu takes all"
        )


def check_weights_fit(needed_bytes: int, free_bytes: int) -> None:
    """The weights go into the free memory of the GPU.

    Raises:
        ModelError: they do not.
    """
    if needed_bytes > free_bytes:
        raise ModelError(
            f"the weights of the target take {gib(needed_bytes)}, {gib(free_bytes)} of the GPU are "
            f"free; {_WHAT_HELPS}"
        )


def out_of_memory(needed_bytes: int, free_bytes: int) -> ModelError:
    """The error for a GPU that ran out of memory after the weights of `needed_bytes` had fitted."""
    return ModelError(
        f"the GPU ran out of memory while the target was loaded: the weights take "
        f"{gib(needed_bytes)}, {gib(free_bytes)} were free before; {_WHAT_HELPS}, or lower "
        f"target.kv_cache_tokens"
    )


_WHAT_HELPS = (
    "set target.quantisation = int8, take a smaller target.model or another target.device, or "
    "split it over several GPUs (workers.gpus_per_worker)"
)


def _text(capability: Capability) -> str:
    return ".".join(map(str, capability))
