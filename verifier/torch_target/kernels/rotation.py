"""Rotary embedding inside kernels: both halves of heads turned by the angles of their token.

This module must never know where the heads lie.
"""

from __future__ import annotations

import triton.language as tl

from verifier.torch_target.kernels.launch import kernel


@kernel
def angles_of(
    cos: tl.tensor, sin: tl.tensor, offsets: tl.tensor, is_angle: tl.tensor, HALF: tl.constexpr
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """Cosines and sines of a token, of each the left half and the right one."""
    cos_left = tl.load(cos + offsets, mask=is_angle, other=0.0).to(tl.float32)
    cos_right = tl.load(cos + offsets + HALF, mask=is_angle, other=0.0).to(tl.float32)
    sin_left = tl.load(sin + offsets, mask=is_angle, other=0.0).to(tl.float32)
    sin_right = tl.load(sin + offsets + HALF, mask=is_angle, other=0.0).to(tl.float32)
    return cos_left, cos_right, sin_left, sin_right


@kernel
def turned(
    left: tl.tensor, right: tl.tensor, angles: tl.tensor, dtype: tl.constexpr
) -> tuple[tl.tensor, tl.tensor]:
    """Both halves of heads, in float32, by `angles_of` their token: of `dtype`."""
    cos_left, cos_right, sin_left, sin_right = angles
    # The stock model rounds each product before it adds them.
    new_left = (left * cos_left).to(dtype).to(tl.float32) - (right * sin_left).to(dtype)
    new_right = (right * cos_right).to(dtype).to(tl.float32) + (left * sin_right).to(dtype)
    return new_left.to(dtype), new_right.to(dtype)
