"""What making a draft takes of memory and disk, told and checked before anything is begun.

Pure. Every figure is an upper bound of what the code beside it allocates.
"""

from __future__ import annotations

import msgspec

from shared.errors import ModelError
from verifier.finetune.recipe.draft_shape import DraftShape
from verifier.finetune.recipe.recipe import Recipe

_GIB = 1 << 30
# Of what is free: the rest is for pieces that no estimate knows, such as those of libraries.
_USED_SHARE = 0.85
_LEAST_STEPS = 256


class TargetSize(msgspec.Struct, frozen=True):
    """What estimates need of a target."""

    vocab_size: int
    hidden: int
    num_parameters: int
    kv_numbers: int  # of one token, over all layers


class MemoryPlan(msgspec.Struct, frozen=True):
    """How many rows of slots the target writes, and the bytes of each part."""

    num_steps: int
    weights_bytes: int
    cache_bytes: int
    hidden_bytes: int
    training_bytes: int

    @property
    def peak_bytes(self) -> int:
        """Writing and training are not at the same time; hidden states outlive the writing."""
        return self.weights_bytes + self.hidden_bytes + max(self.cache_bytes, self.training_bytes)

    def __str__(self) -> str:
        named = (
            ("target", self.weights_bytes),
            ("its cache", self.cache_bytes),
            ("its hidden states", self.hidden_bytes),
            ("training", self.training_bytes),
        )
        parts = ", ".join(f"{name} {size / _GIB:.1f}" for name, size in named)
        return f"memory: at most {self.peak_bytes / _GIB:.1f} GiB ({parts})"


def plan_memory(
    recipe: Recipe, target: TargetSize, free_bytes: int, number_bytes: int, wanted_steps: int
) -> MemoryPlan:
    """As many steps of writing as memory allows, `wanted_steps` at most.

    `number_bytes`: of a number of the target while it writes.

    Raises:
        ModelError: not even few of them fit; the sentence says what is needed.
    """
    # Weights as they are and in the computing type, each kept for float32 texts held out.
    weights = target.num_parameters * (4 + number_bytes)
    cache = recipe.slots * recipe.context_tokens * target.kv_numbers * number_bytes
    cache += 4 * recipe.slots * target.vocab_size * 4
    training = training_bytes(recipe.shape, target.vocab_size, recipe.step_tokens)
    step_bytes = recipe.slots * (target.hidden * 2 + 4)
    room = int(free_bytes * _USED_SHARE) - weights - max(cache, training)
    steps = min(wanted_steps, max(0, room) // step_bytes)
    plan = MemoryPlan(steps, weights, cache, steps * step_bytes, training)
    if steps < min(_LEAST_STEPS, wanted_steps):
        needed = weights + max(cache, training) + min(_LEAST_STEPS, wanted_steps) * step_bytes
        raise ModelError(
            f"making such a draft needs {needed / _USED_SHARE / _GIB:.1f} GiB of memory, and "
            f"{free_bytes / _GIB:.1f} are free; fewer --slots or --step-tokens need less"
        )
    return plan


def training_bytes(shape: DraftShape, vocab_size: int, step_tokens: int) -> int:
    """Weights with gradient, momentum and moments, activations of a step, logits of both models."""
    state = shape.num_parameters(vocab_size) * 4 * 6
    kept = step_tokens * shape.layers * 2 * (12 * shape.hidden + 4 * shape.ffn)
    logits = step_tokens * vocab_size * 2 * 2
    return state + kept + logits


def disk_bytes(recipe: Recipe, target: TargetSize, template_bytes: int, num_tokens: int) -> int:
    """The draft's file, a checkpoint and its successor, and the texts' token ids."""
    checkpoint = recipe.shape.num_parameters(target.vocab_size) * 4 * 4
    draft = recipe.shape.file_bytes(target.vocab_size, recipe.weights) + template_bytes
    return draft + 2 * checkpoint + 8 * num_tokens


def step_products(
    shape: DraftShape, vocab_size: int, target_hidden: int, num_tokens: int, num_positions: int
) -> float:
    """Floating-point operations of matrix products for so many tokens read and positions learned.

    Each product of the draft once forward and twice backward, the target's logits once; attention
    is left out.
    """
    body = 6.0 * shape.matrix_weights * num_tokens
    head = (6.0 * shape.hidden + 2.0 * target_hidden) * vocab_size * num_positions
    return body + head
