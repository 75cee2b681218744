"""`block_rounding` of 4 bits in one Triton kernel: weights are read once and written once."""

from __future__ import annotations

import torch
import triton.language as tl
from torch import Tensor

from verifier.finetune.recipe.draft_shape import BLOCK_WEIGHTS
from verifier.torch_target.kernels.launch import kernel

_BLOCKS_TOGETHER = 64
_TINY: tl.constexpr = tl.constexpr(1e-12)


@kernel
def _rounded_to_4_bits(
    WEIGHT: tl.tensor,
    OUT: tl.tensor,
    num_blocks: tl.tensor,
    TOGETHER: tl.constexpr,
    SIZE: tl.constexpr,
) -> None:
    block = tl.program_id(0).to(tl.int64) * TOGETHER + tl.arange(0, TOGETHER)[:, None]
    place = tl.arange(0, SIZE)[None, :]
    is_there = block < num_blocks
    weight = tl.load(WEIGHT + block * SIZE + place, mask=is_there, other=0.0)
    at = tl.argmax(tl.abs(weight), 1)[:, None]
    largest = tl.sum(tl.where(place == at, weight, 0.0), 1)[:, None]
    step = (largest * -0.125).to(tl.float16).to(tl.float32)
    step = tl.where(step == 0, _TINY, step)
    numbers = tl.floor(tl.div_rn(weight, tl.broadcast_to(step, weight.shape)) + 8.5)
    numbers = tl.minimum(tl.maximum(numbers, 0.0), 15.0) - 8.0
    tl.store(OUT + block * SIZE + place, numbers * step, mask=is_there)


def rounded_to_4_bits_by_kernel(weight: Tensor) -> Tensor:
    """See `block_rounding.rounded`; float32."""
    weight = weight.contiguous()
    out = torch.empty_like(weight)
    num_blocks = weight.numel() // BLOCK_WEIGHTS
    _rounded_to_4_bits[(-(-num_blocks // _BLOCKS_TOGETHER),)](
        *(weight, out, num_blocks), TOGETHER=_BLOCKS_TOGETHER, SIZE=BLOCK_WEIGHTS
    )
    return out
