"""Keys and values of all layers, one slot for each token that the blocks can hold.

This module must never know which stream a slot belongs to.
"""

from __future__ import annotations

from torch import Tensor


class BlockCache:
    """Keys and values of every layer, one slot for each token that the blocks can hold."""

    def __init__(self, num_slots: int) -> None:
        self.num_slots = num_slots
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def store(self, layer: int, key: Tensor, value: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Put keys and values [1, num_heads, num_tokens, head_size] into slots [num_tokens].

        Returns all keys and values of the layer [num_slots, num_heads, head_size].  The
        first call for a layer allocates it: only then is the shape of its heads known for every
        architecture.
        """
        if layer not in self._layers:
            self._layers[layer] = (self._allocated(key), self._allocated(value))
        keys, values = self._layers[layer]
        if key.is_cuda:
            # Triton is there only beside a CUDA build of torch.
            from verifier.torch_target.kernels.layers import store

            store(key, value, keys, values, slots)
        else:
            keys.index_copy_(0, slots, key[0].transpose(0, 1))
            values.index_copy_(0, slots, value[0].transpose(0, 1))
        return keys, values

    @property
    def layers(self) -> frozenset[int]:
        """The layers that have stored something."""
        return frozenset(self._layers)

    def _allocated(self, like: Tensor) -> Tensor:
        # Neighbouring tokens side by side: a stream's part is a slice, a token is written at once.
        return like.new_zeros(self.num_slots, like.shape[1], like.shape[3])
