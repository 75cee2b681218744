"""Shapes of language models, and what a token of them costs: work, weights, cache.

Only matrix products count, as in the paper (arXiv 2510.11331): attention, feed-forward, and the
head over the vocabulary. This module must never know how fast a station is.
"""

from __future__ import annotations

from typing import Literal

import msgspec

BYTES_PER_NUMBER = 2  # float16

ModelName = Literal["llama-68m", "llama-1.1b", "tinyllama-1.1b", "llama-7b", "llama-13b"]


class ModelShape(msgspec.Struct, frozen=True):
    """A LLaMA: gated feed-forward of three matrices, perhaps fewer key/value heads than heads."""

    num_layers: int
    width: int  # h1
    feed_forward_width: int  # h2
    key_value_width: int
    vocab_size: int = 32_000

    @property
    def projection_weights(self) -> int:
        """Of all layers: queries and outputs, keys and values, feed-forward."""
        attention = 2 * self.width * (self.width + self.key_value_width)
        return self.num_layers * (attention + 3 * self.width * self.feed_forward_width)

    @property
    def weights_bytes(self) -> int:
        """All layers, embeddings and head."""
        return BYTES_PER_NUMBER * (self.projection_weights + 2 * self.vocab_size * self.width)

    @property
    def cache_bytes(self) -> int:
        """Keys and values of one token."""
        return BYTES_PER_NUMBER * 2 * self.num_layers * self.key_value_width

    @property
    def token_flops(self) -> float:
        """Of one token, without its look back."""
        return 2.0 * (self.projection_weights + self.vocab_size * self.width)

    @property
    def look_back_flops(self) -> float:
        """What every token of context adds to that."""
        return 4.0 * self.num_layers * self.width


# From the models' published configurations; llama-1.1b is TinyLlama with keys and values of all
# heads, as the paper's memory formula has it.
SHAPES: dict[ModelName, ModelShape] = {
    "llama-68m": ModelShape(2, 768, 3072, 768),
    "llama-1.1b": ModelShape(22, 2048, 5632, 2048),
    "tinyllama-1.1b": ModelShape(22, 2048, 5632, 256),  # 4 of 32 heads have keys and values
    "llama-7b": ModelShape(32, 4096, 11008, 4096),
    "llama-13b": ModelShape(40, 5120, 13824, 5120),
}
