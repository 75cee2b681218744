"""How fast a base station's GPU runs a model: T(b, F) = c1 * F * b + c2.

c1 (seconds per FLOP) and c2 (seconds) are not in the paper. They are what a card's data sheet
allows, times the parts of that which rounds of our own reached; see `MEASURED_ROUNDS`.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from verifier.reproduction.heterogeneous_edge.models import ModelShape

# Tokens and seconds of a round of 64 streams at context 1,150, Llama-3.1-8B's shape in bfloat16 on
# one H200, 2026-11-22 (tests/benchmarks/RESULTS.md, "Rounds on a GPU").
MEASURED_ROUNDS = (
    *((64, 6.9e-3), (128, 7.4e-3), (192, 8.6e-3), (256, 9.1e-3), (320, 11.1e-3)),
    *((384, 13.1e-3), (512, 15.3e-3), (640, 17.5e-3)),
)
_MEASURED_SHAPE = ModelShape(32, 4096, 14336, 1024, 128_256)
_MEASURED_STREAMS = 64
_MEASURED_CONTEXT = 1150

CardName = Literal["rtx-3080", "rtx-4500", "h200"]


class Card(msgspec.Struct, frozen=True):
    """Of a data sheet: float16 products with float32 sums, dense, and reads of memory."""

    flops_per_second: float
    bytes_per_second: float


CARDS: dict[CardName, Card] = {
    "rtx-3080": Card(59.5e12, 760e9),
    "rtx-4500": Card(158.5e12, 432e9),  # Ada generation
    "h200": Card(989e12, 4.8e12),
}


class ExecutionTime(msgspec.Struct, frozen=True):
    """c1 and c2 of a model on a card."""

    seconds_per_flop: float
    fixed_seconds: float


class Efficiency(msgspec.Struct, frozen=True):
    """Which parts of its data sheet a card reaches."""

    of_flops: float
    of_bytes: float


def fit(samples: list[tuple[float, float]]) -> ExecutionTime:
    """The line through (FLOP, seconds) with the least squares."""
    work, seconds = np.array(samples).T
    slope, offset = np.polyfit(work, seconds, 1)
    return ExecutionTime(float(slope), float(offset))


def measured_efficiency() -> Efficiency:
    """What our rounds reached of their card's data sheet."""
    shape, card = _MEASURED_SHAPE, CARDS["h200"]
    flops = shape.token_flops + shape.look_back_flops * _MEASURED_CONTEXT
    fitted = fit([(count * flops, seconds) for count, seconds in MEASURED_ROUNDS])
    read_bytes = shape.weights_bytes - 2 * shape.vocab_size * shape.width  # no row of embeddings
    read_bytes += shape.cache_bytes * _MEASURED_STREAMS * _MEASURED_CONTEXT
    return Efficiency(
        of_flops=1.0 / (fitted.seconds_per_flop * card.flops_per_second),
        of_bytes=read_bytes / (fitted.fixed_seconds * card.bytes_per_second),
    )


def execution_time(shape: ModelShape, card: Card, efficiency: Efficiency) -> ExecutionTime:
    """c1 from the card's products; c2: every step reads all weights once."""
    return ExecutionTime(
        seconds_per_flop=1.0 / (efficiency.of_flops * card.flops_per_second),
        fixed_seconds=shape.weights_bytes / (efficiency.of_bytes * card.bytes_per_second),
    )
