"""How fast a board drafts by a shape, and the largest shape that is fast enough.

A token reads every weight once, and each layer costs some time of its own, told here as bytes that
could have been read meanwhile: seconds = (bytes + layers × layer_bytes) / bytes_per_second. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from verifier.finetune.recipe.draft_shape import DraftShape, parse_shape
from verifier.finetune.recipe.recipe import FileWeights

# Of a processor, fitted to ten drafts of five shapes on one x86 core, each within 13 %
# (`python -m tests.benchmarks.bench_draft_shapes`, 2026-11-27, a busy machine).
CPU_LAYER_BYTES = 266_000
# What profiles and others measured boards with: SmolLM2-135M.
_MEASURED_LAYERS = 30
_Q4_0_BYTES, _Q4_1_BYTES = 89.7e6, 96.4e6
# From what is worth a file to what is no longer small.
_LADDER = (
    *("128x4x320", "128x8x320", "192x6x512", "192x9x512", "256x8x640", "256x12x640"),
    *("320x10x832", "384x12x960", "448x14x1152", "512x16x1280", "640x18x1600", "768x20x2048"),
)


class BoardSpeed(msgspec.Struct, frozen=True):
    """How a board computes single tokens."""

    bytes_per_second: float  # of weights
    layer_bytes: float = CPU_LAYER_BYTES

    def tokens_per_second(self, shape: DraftShape, vocab_size: int, weights: FileWeights) -> float:
        """Of forward passes alone; draws come on top."""
        read = shape.file_bytes(vocab_size, weights) + shape.layers * self.layer_bytes
        return self.bytes_per_second / read


def measured_board(tokens_per_second: float, num_bytes: float, layers: int) -> BoardSpeed:
    """A processor that was measured with a model of so many bytes of weights."""
    return BoardSpeed(tokens_per_second * (num_bytes + layers * CPU_LAYER_BYTES))


def _gpu_board(bytes_per_second: float, tokens_per_second: float) -> BoardSpeed:
    """A GPU whose maker says what it reads: the rest of a measured token is of layers."""
    spent = bytes_per_second / tokens_per_second - _Q4_1_BYTES
    return BoardSpeed(bytes_per_second, spent / _MEASURED_LAYERS)


# The figures of devices/profiles.
BOARDS: Mapping[str, BoardSpeed] = MappingProxyType(
    {
        "pi4": measured_board(39.0, _Q4_0_BYTES, _MEASURED_LAYERS),
        "pi5": measured_board(90.0, _Q4_1_BYTES, _MEASURED_LAYERS),
        "jetson-orin-nano": _gpu_board(68e9, 165.0),
        "jetson-agx-orin": _gpu_board(204.8e9, 165.0),
    }
)


class FittingShape(msgspec.Struct, frozen=True):
    """What was chosen for a board."""

    shape: DraftShape
    tokens_per_second: float
    wanted: float

    def __str__(self) -> str:
        words = f"{self.shape} for the board: some {self.tokens_per_second:.0f} tokens/s"
        if self.tokens_per_second < self.wanted:
            words += f", fewer than the {self.wanted:g} wanted; no smaller draft is of use"
        return words


def fitting_shape(
    board: BoardSpeed, vocab_size: int, weights: FileWeights, wanted: float
) -> FittingShape:
    """The largest draft of so many tokens a second; the smallest of all where none is."""
    shapes = [parse_shape(written) for written in _LADDER]
    speeds = [board.tokens_per_second(shape, vocab_size, weights) for shape in shapes]
    enough = [i for i, speed in enumerate(speeds) if speed >= wanted]
    chosen = max(enough, key=lambda i: shapes[i].num_parameters(vocab_size), default=0)
    return FittingShape(shapes[chosen], speeds[chosen], wanted)
