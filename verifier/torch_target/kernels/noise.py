"""The numbers of `shared.speculation.noise` in Triton kernels: words and uniforms bit for bit."""

from __future__ import annotations

import math

import triton.language as tl

from shared.speculation.noise import LARGEST_UNIFORM
from verifier.torch_target.kernels.launch import kernel

_MINUS_LN_2 = tl.constexpr(-math.log(2.0))
_LARGEST_UNIFORM = tl.constexpr(float(LARGEST_UNIFORM))


@kernel
def uniforms(seed: tl.tensor, position: tl.tensor, domain: tl.tensor, ids: tl.tensor) -> tl.tensor:
    """The uniforms of any ids."""
    zeros = tl.zeros_like(ids)
    first, second, third, fourth = tl.philox(
        seed, ids >> 2, zeros + position, zeros + domain, zeros
    )
    low = tl.where((ids & 1) == 0, first, second)
    high = tl.where((ids & 1) == 0, third, fourth)
    return to_uniforms(tl.where((ids & 2) == 0, low, high))


@kernel
def to_uniforms(words: tl.tensor) -> tl.tensor:
    """As `shared.speculation.noise.to_uniforms`; the product is exact, so fusing is harmless."""
    return tl.minimum(words.to(tl.float32) * (2.0**-32) + (2.0**-33), _LARGEST_UNIFORM)


@kernel
def waiting_times(uniforms: tl.tensor) -> tl.tensor:
    """Exponential waiting times -log(1 - u), float64."""
    # Below 2**-20 the subtraction would lose what the uniform has; the series is off by 2**-60.
    u = uniforms.to(tl.float64)
    return tl.where(u < 2.0**-20, u + u * u * (0.5 + u / 3), -tl.log(1.0 - u))


@kernel
def quick_waiting_times(uniforms: tl.tensor) -> tl.tensor:
    """The same in float32, to 1e-5 of each."""
    u = uniforms
    series = u * (1 + u * (1 / 2 + u * (1 / 3)))
    return tl.where(u < 2.0**-6, series, tl.log2(1.0 - u) * _MINUS_LN_2)
