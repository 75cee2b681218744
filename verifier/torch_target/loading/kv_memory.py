"""How many tokens the key/value cache holds: what is left beside the weights and one round.

Numbers in, numbers out: this module must never ask a device, nor import torch.
"""

from __future__ import annotations

import msgspec

from shared.daemon.resources.main_memory import gib
from shared.errors import ModelError

# Main memory is other programs', too, so there the cache does not take what is free.
CPU_CACHE_TOKENS = 16384

# What a round takes at its peak beside weights and cache, on the generous side.
# Logits and what sampling makes of them, in float32 of the whole vocabulary for every token, as if
# all were drafts: logits, probabilities, noise, sorted values and their indices (two).
_VOCABULARY_COPIES = 6
# Rows of the hidden size at once in one layer: residual, normed, queries, keys and values (before
# and after rotation), attention's and the layer's output; and of the intermediate size: gate and
# up, their product, and one more that is not freed yet.
_HIDDEN_COPIES, _INTERMEDIATE_COPIES = 12, 4
# CUDA graphs, the workspaces of cuBLAS, and kernels' code.
_FIXED_BYTES = 1 << 30


class TargetShape(msgspec.Struct, frozen=True, kw_only=True):
    """What decides how much memory a round and a token of cache take."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    kv_values_per_token: int
    """Keys and values of one token, over all layers and key/value heads."""
    element_bytes: int

    @property
    def cached_token_bytes(self) -> int:
        """Bytes that one token takes in the cache."""
        return self.kv_values_per_token * self.element_bytes

    def round_bytes(self, num_tokens: int) -> int:
        """Bytes that a round of `num_tokens` tokens takes at its peak; an upper estimate."""
        layer = _HIDDEN_COPIES * self.hidden_size + _INTERMEDIATE_COPIES * self.intermediate_size
        token_bytes = 4 * _VOCABULARY_COPIES * self.vocab_size + self.element_bytes * layer
        return _FIXED_BYTES + num_tokens * token_bytes


def cache_tokens_of_cpu(context_tokens: int, max_round_tokens: int) -> int:
    """Tokens of the cache in main memory: a fixed number, if one stream and one round fit."""
    return max(CPU_CACHE_TOKENS, context_tokens, max_round_tokens)


def cache_tokens_of_gpu(
    shape: TargetShape, free_bytes: int, max_round_tokens: int, memory_fraction: float
) -> int:
    """Tokens that fit into `memory_fraction` of what weights and the largest round leave free.

    Raises:
        ModelError: nothing is left.
    """
    round_bytes = shape.round_bytes(max_round_tokens)
    num_tokens = int(memory_fraction * (free_bytes - round_bytes)) // shape.cached_token_bytes
    if num_tokens < 1:
        raise ModelError(
            f"after the weights {gib(free_bytes)} of the GPU are free, and one round of "
            f"{max_round_tokens} tokens may take {gib(round_bytes)}: nothing is left for keys and "
            "values; lower rounds.max_round_tokens or set target.quantisation = int8"
        )
    return num_tokens


def check_main_memory(weight_bytes: int, cache_bytes: int, free_bytes: int) -> None:
    """Weights and cache go into main memory; on a GPU the weights pass through it.

    Raises:
        ModelError: they do not.
    """
    if weight_bytes + cache_bytes > free_bytes:
        cache = f" and its key/value cache {gib(cache_bytes)}" if cache_bytes else ""
        raise ModelError(
            f"the weights of the target take {gib(weight_bytes)}{cache}, {gib(free_bytes)} of main "
            "memory are free; take a smaller target.model, target.dtype = bfloat16"
            + (" or fewer target.kv_cache_tokens" if cache_bytes else "")
        )


def check_cache_tokens(cache_tokens: int, context_tokens: int, max_round_tokens: int) -> None:
    """The cache has room for one stream and for one round.

    Raises:
        ModelError: it has not.
    """
    room = f"the key/value cache has room for {cache_tokens} tokens"
    help_ = "raise target.kv_cache_tokens or target.memory_fraction"
    if cache_tokens < context_tokens:
        raise ModelError(
            f"{room}, less than one stream of target.context_tokens = {context_tokens}: "
            f"lower that, or {help_}"
        )
    if cache_tokens < max_round_tokens:
        raise ModelError(
            f"{room}, less than one round of rounds.max_round_tokens = {max_round_tokens}: "
            f"lower that, or {help_}"
        )
