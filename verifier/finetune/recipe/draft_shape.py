"""How large a draft is: its width, layers and heads, and what file and memory that makes.

Pure. It must never know a tensor.
"""

from __future__ import annotations

import re

import msgspec

from shared.errors import RequestRefused

# Bits of a weight in a file, by its type of blocks of 32 numbers.
BITS_PER_WEIGHT = {"Q4_0": 4.5, "Q8_0": 8.5, "F16": 16.0}
BLOCK_WEIGHTS = 32
_HEAD_SIZE = 64
_WRITTEN = re.compile(r"(?P<hidden>\d{2,5})x(?P<layers>\d{1,3})(?:x(?P<ffn>\d{2,6}))?")


class DraftShape(msgspec.Struct, frozen=True):
    """A LLaMA body whose embedding is its output as well, unless it is not tied."""

    hidden: int
    layers: int
    ffn: int
    heads: int
    kv_heads: int
    head_size: int = _HEAD_SIZE
    is_tied: bool = True

    @property
    def matrix_weights(self) -> int:
        """Of all layers together."""
        attention = 2 * self.hidden * self.head_size * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.ffn)

    def num_parameters(self, vocab_size: int) -> int:
        """With the embedding, an output of its own, and all norms."""
        norms = (2 * self.layers + 1) * self.hidden
        vocabulary = (1 if self.is_tied else 2) * vocab_size * self.hidden
        return self.matrix_weights + norms + vocabulary

    def file_bytes(self, vocab_size: int, weights: str) -> int:
        """Of all weights; the vocabulary comes on top."""
        return int(self.num_parameters(vocab_size) * BITS_PER_WEIGHT[weights] / 8)

    def __str__(self) -> str:
        return f"{self.hidden}x{self.layers}x{self.ffn}"


def parse_shape(written: str) -> DraftShape:
    """`WIDTHxLAYERS` or `WIDTHxLAYERSxFFN`: heads of 64 numbers, half as many of keys.

    A width below 64 is one head.

    Raises:
        RequestRefused: it is written otherwise, or a size is not a multiple of a block.
    """
    match = _WRITTEN.fullmatch(written)
    if match is None:
        raise RequestRefused(f"--shape {written}: must be WIDTHxLAYERS[xFFN], such as 256x8x640")
    hidden, layers = int(match["hidden"]), int(match["layers"])
    ffn = int(match["ffn"]) if match["ffn"] else 3 * hidden
    head_size = min(_HEAD_SIZE, hidden)
    for name, size in (("width", hidden), ("ffn", ffn)):
        if size == 0 or size % BLOCK_WEIGHTS:
            raise RequestRefused(f"--shape {written}: its {name} {size} is no multiple of 32")
    if hidden % head_size or not layers:
        raise RequestRefused(f"--shape {written}: needs a layer, and a width of whole heads of 64")
    heads = hidden // head_size
    kv_heads = heads // 2 if heads % 2 == 0 else heads
    return DraftShape(hidden, layers, ffn, heads, kv_heads, head_size)
