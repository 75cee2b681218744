"""Keys and values of all layers, one slot for each token that the blocks can hold.

This module must never know which stream a slot belongs to.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheShape:
    """How many blocks of how many tokens there are, and how many tokens a stream may use."""

    num_blocks: int
    block_tokens: int
    context_tokens: int

    @property
    def num_slots(self) -> int:
        """Slots of all blocks, and the spare one."""
        return self.spare_slot + 1

    @property
    def spare_slot(self) -> int:
        """A slot that belongs to no block: what a padded round stores goes there."""
        return self.num_blocks * self.block_tokens

    @property
    def max_stream_blocks(self) -> int:
        """The longest block table of a stream."""
        return -(-self.context_tokens // self.block_tokens)


class BlockCache:
    """Keys and values of every layer, one slot for each token that the blocks can hold."""

    def __init__(self, num_slots: int) -> None:
        self.num_slots = num_slots
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def of_layer(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values of a layer [num_slots, num_heads, head_size].

        The first call for a layer allocates them for such as `key` and `value`
        [1, num_heads, num_tokens, head_size]: only then is the shape of its heads known for every
        architecture.
        """
        if layer not in self._layers:
            self._layers[layer] = (self._allocated(key), self._allocated(value))
        return self._layers[layer]

    @property
    def layers(self) -> frozenset[int]:
        """The layers that keep something."""
        return frozenset(self._layers)

    def _allocated(self, like: Tensor) -> Tensor:
        # Neighbouring tokens side by side: a stream's part is a slice, a token is written at once.
        return like.new_zeros(self.num_slots, like.shape[1], like.shape[3])
