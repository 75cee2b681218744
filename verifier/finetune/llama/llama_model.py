"""A LLaMA language model in plain PyTorch: what the target is while it writes, and the draft.

Its kin differ by little: Qwen2 adds numbers to queries, keys and values, Qwen3 norms each head.
Weights of one kind are stacked over the layers, so that an optimiser treats them in one batched
product. It must never know files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

MATRICES = ("query", "key", "value", "output", "gate", "up", "down")
NORMS = ("attention_norm", "ffn_norm")
BIASES = ("query_bias", "key_bias", "value_bias")
HEAD_NORMS = ("query_norm", "key_norm")
Architecture = Literal["llama", "qwen2", "qwen3"]

KeysValues = list[tuple[Tensor, Tensor]]  # of each layer, [rows, kv_heads, tokens, head_size]


@dataclass(frozen=True, slots=True)
class LlamaShape:
    """Sizes, and the two numbers that a file says beside them."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    ffn: int
    head_size: int
    vocab_size: int
    rope_theta: float
    norm_epsilon: float
    architecture: Architecture = "llama"

    @property
    def vector_sizes(self) -> Mapping[str, int]:
        """Of what each layer has beside its matrices."""
        sizes = dict.fromkeys(NORMS, self.hidden)
        if self.architecture == "qwen2":
            sizes |= {name: self.matrix_sizes[name.removesuffix("_bias")][0] for name in BIASES}
        elif self.architecture == "qwen3":
            sizes |= dict.fromkeys(HEAD_NORMS, self.head_size)
        return sizes

    @property
    def matrix_sizes(self) -> Mapping[str, tuple[int, int]]:
        """Outputs and inputs of each kind of matrix."""
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        return {
            "query": (queries, self.hidden),
            "key": (keys, self.hidden),
            "value": (keys, self.hidden),
            "output": (self.hidden, queries),
            "gate": (self.ffn, self.hidden),
            "up": (self.ffn, self.hidden),
            "down": (self.hidden, self.ffn),
        }

    @property
    def kv_numbers(self) -> int:
        """Keys and values of one token."""
        return 2 * self.layers * self.kv_heads * self.head_size


class LayerWeights(NamedTuple):
    """Of one layer, merged for fewer products."""

    attention_in: Tensor  # [queries + keys + values, hidden]
    attention_out: Tensor  # [hidden, queries]
    ffn_in: Tensor  # [2 * ffn, hidden]
    ffn_out: Tensor  # [hidden, ffn]
    attention_norm: Tensor  # [hidden]
    ffn_norm: Tensor  # [hidden]
    attention_bias: Tensor | None = None  # [queries + keys + values]
    head_norm: Tensor | None = None  # [heads + kv_heads, head_size]

    def heads(self, states: Tensor, shape: LlamaShape) -> Tensor:
        """Queries, keys and values of normed states [..., heads + 2 * kv_heads, head_size]."""
        flat = functional.linear(states, self.attention_in, self.attention_bias)
        heads = flat.view(*states.shape[:-1], -1, shape.head_size)
        if self.head_norm is None:
            return heads
        normed, values = heads.tensor_split([shape.heads + shape.kv_heads], -2)
        normed = functional.rms_norm(normed, (shape.head_size,), None, shape.norm_epsilon)
        return torch.cat([normed * self.head_norm, values], -2)


@dataclass(frozen=True, slots=True)
class LlamaWeights:
    """All weights in one dtype."""

    layers: tuple[LayerWeights, ...]
    last_norm: Tensor  # [hidden]
    embedding: Tensor  # [vocab_size, hidden], perhaps in a wider dtype
    unembedding: Tensor  # [vocab_size, hidden]


@dataclass(frozen=True, slots=True)
class Rotation:
    """Cosines and sines of every position [num_tokens, head_size]."""

    cosines: Tensor
    sines: Tensor

    def of(self, positions: Tensor) -> Rotation:
        """At these positions, to be spread over heads [rows, 1, head_size]."""
        return Rotation(self.cosines[positions][:, None], self.sines[positions][:, None])

    def first(self, num_tokens: int) -> Rotation:
        """Of the first positions."""
        return Rotation(self.cosines[:num_tokens], self.sines[:num_tokens])

    def turn(self, states: Tensor) -> Tensor:
        """Heads turned by their positions; the halves of a head are pairs."""
        left, right = states.chunk(2, -1)
        return states * self.cosines + torch.cat([-right, left], -1) * self.sines


class LlamaModel(nn.Module):
    """Weights in float32, random by a seed, or not set at all: None.

    A tied model has no `unembedding` of its own.
    """

    def __init__(self, shape: LlamaShape, seed: int | None, *, is_tied: bool = True) -> None:
        super().__init__()
        self.shape = shape
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        for name, (num_outputs, num_inputs) in shape.matrix_sizes.items():
            scale = 0.5 * num_inputs**-0.5
            if name in ("output", "down"):  # both add to what goes on through all layers
                scale *= (2 * shape.layers) ** -0.5
            size = (shape.layers, num_outputs, num_inputs)
            self.register_parameter(name, _random(size, scale, generator))
        for name, length in shape.vector_sizes.items():
            start = torch.zeros if name in BIASES else torch.ones
            self.register_parameter(name, nn.Parameter(start(shape.layers, length)))
        self.last_norm = nn.Parameter(torch.ones(shape.hidden))
        vocabulary = (shape.vocab_size, shape.hidden)
        self.embedding = _random(vocabulary, 0.02, generator)
        self.unembedding = None if is_tied else _random(vocabulary, 0.02, generator)
        self.register_buffer("rope_factors", torch.ones(shape.head_size // 2))

    def rotation(self, num_tokens: int, dtype: torch.dtype) -> Rotation:
        """Of the first positions, on the model's device."""
        factors = self.get_buffer("rope_factors").double()
        size = self.shape.head_size
        steps = torch.arange(0, size, 2, device=factors.device, dtype=torch.float64) / size
        speeds = self.shape.rope_theta**-steps / factors
        positions = torch.arange(num_tokens, device=factors.device, dtype=torch.float64)
        angles = (positions[:, None] * speeds).repeat(1, 2)
        return Rotation(angles.cos().to(dtype), angles.sin().to(dtype))

    def weights(self, dtype: torch.dtype) -> LlamaWeights:
        """As they are, in `dtype`."""
        matrices = {name: self.get_parameter(name).to(dtype) for name in MATRICES}
        embedding = self.embedding.to(dtype)
        own = self.unembedding
        return merged(self, matrices, dtype, embedding, embedding if own is None else own.to(dtype))


def merged(
    model: LlamaModel,
    matrices: Mapping[str, Tensor],
    dtype: torch.dtype,
    embedding: Tensor,
    unembedding: Tensor,
) -> LlamaWeights:
    """Weights of these matrices [layers, outputs, inputs] and all else of the model."""
    shape = model.shape
    vectors = {name: model.get_parameter(name).to(dtype) for name in shape.vector_sizes}
    stacks = [
        torch.cat([matrices[name] for name in ("query", "key", "value")], 1),
        matrices["output"],
        torch.cat([matrices["gate"], matrices["up"]], 1),
        matrices["down"],
        vectors["attention_norm"],
        vectors["ffn_norm"],
    ]
    # Unbound, not indexed: of a stack's gradient each layer would make zeros of all of it.
    layers = [LayerWeights(*of_layer) for of_layer in zip(*map(torch.unbind, stacks), strict=True)]
    if BIASES[0] in vectors:
        biases = torch.cat([vectors[name] for name in BIASES], 1).unbind()
        layers = [w._replace(attention_bias=b) for w, b in zip(layers, biases, strict=True)]
    if HEAD_NORMS[0] in vectors:
        counts = (shape.heads, shape.kv_heads)
        norms = [vectors[name][:, None] for name in HEAD_NORMS]
        spread = [n.expand(-1, c, -1) for n, c in zip(norms, counts, strict=True)]
        head_norms = torch.cat(spread, 1).unbind()
        layers = [w._replace(head_norm=n) for w, n in zip(layers, head_norms, strict=True)]
    return LlamaWeights(tuple(layers), model.last_norm.to(dtype), embedding, unembedding)


RunLayer = Callable[[LlamaShape, LayerWeights, Rotation, Tensor], tuple[Tensor, Tensor, Tensor]]


def run_layer(
    shape: LlamaShape, weights: LayerWeights, rotation: Rotation, states: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """States [rows, tokens, hidden] behind a layer, and its keys and values.

    `rotation`: of the tokens' positions.
    """
    heads = weights.heads(_norm(states, weights.attention_norm, shape), shape).transpose(1, 2)
    query_key, value = heads.tensor_split([shape.heads + shape.kv_heads], 1)
    query, key = rotation.turn(query_key).tensor_split([shape.heads], 1)
    mixed = _attend(query, key, value).transpose(1, 2).flatten(2)
    states = states + functional.linear(mixed, weights.attention_out)
    return states + feed_forward(states, shape, weights), key, value


def final_states(
    shape: LlamaShape,
    weights: LlamaWeights,
    rotation: Rotation,
    token_ids: Tensor,
    kept: KeysValues | None = None,
    run: RunLayer = run_layer,
) -> Tensor:
    """Normed states [rows, tokens, hidden] that logits are one product of.

    `token_ids`: int64 [rows, tokens], each row from its position 0 on. Keys and values of every
    layer are appended to `kept`. `run`: `run_layer`, or what computes the same faster.
    """
    num_rows, num_tokens = token_ids.shape
    dtype = weights.last_norm.dtype
    # Not `embedding`: its gradient is sorted by ids, which no CUDA graph can hold.
    states = weights.embedding.index_select(0, token_ids.reshape(-1)).to(dtype)
    states = states.view(num_rows, num_tokens, -1)
    turned = rotation.first(num_tokens)
    for layer in weights.layers:
        states, key, value = run(shape, layer, turned, states)
        if kept is not None:
            kept.append((key, value))
    return _norm(states, weights.last_norm, shape)


def feed_forward(states: Tensor, shape: LlamaShape, weights: LayerWeights) -> Tensor:
    """What the second half of a layer adds."""
    normed = _norm(states, weights.ffn_norm, shape)
    gate, up = functional.linear(normed, weights.ffn_in).chunk(2, -1)
    return functional.linear(functional.silu(gate) * up, weights.ffn_out)


def _norm(states: Tensor, weight: Tensor, shape: LlamaShape) -> Tensor:
    return functional.rms_norm(states, (shape.hidden,), weight, shape.norm_epsilon)


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    num_groups = query.shape[1] // key.shape[1]
    if query.dtype == torch.float32 and num_groups > 1:  # no fused kernel shares heads there
        key, value = (x.repeat_interleave(num_groups, 1) for x in (key, value))
        num_groups = 1
    return functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, enable_gqa=num_groups > 1
    )


def _random(size: tuple[int, ...], scale: float, generator: torch.Generator | None) -> nn.Parameter:
    if generator is None:
        return nn.Parameter(torch.empty(*size))
    return nn.Parameter(torch.randn(*size, generator=generator) * scale)
