"""A model of an architecture like `llama` from its GGUF file: weights that write, teach or learn.

Targets and drafts are read alike. It must never leave a tensor of the file out, nor make one up.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import gguf
import numpy as np
import torch
from numpy.typing import NDArray

from shared.errors import ModelError
from verifier.finetune.llama.llama_model import (
    MATRICES,
    Architecture,
    LlamaModel,
    LlamaShape,
)
from verifier.torch_target.model_files.gguf_header import GgufHeader
from verifier.torch_target.model_files.gguf_parts import read_gguf_model

_ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)
# Our names of what a layer has, and a file's.
_LAYER_NAMES = {
    "query": "attn_q",
    "key": "attn_k",
    "value": "attn_v",
    "output": "attn_output",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
    "attention_norm": "attn_norm",
    "ffn_norm": "ffn_norm",
    "query_norm": "attn_q_norm",
    "key_norm": "attn_k_norm",
}
EMBEDDING, UNEMBEDDING, LAST_NORM = "token_embd.weight", "output.weight", "output_norm.weight"
ROPE_FACTORS = "rope_freqs.weight"

Numbers = NDArray[np.float32]


def read_target(path: Path) -> LlamaModel:
    """The model in main memory, in float32.

    Raises:
        ModelError: the file is broken, of another architecture, or its vocabulary does not fit.
    """
    files = read_gguf_model(path)
    header = files.parts[0]
    shape = llama_shape(header)
    names = {tensor.name for tensor in files.tensors}
    _check_names(header, shape, names)
    found = dict(_numbers(path, *files.other_paths))
    _check_vocabulary(header, found[EMBEDDING])
    with torch.device("meta"):
        model = LlamaModel(shape, None, is_tied=UNEMBEDDING not in names)
    state = {"embedding": found[EMBEDDING], "last_norm": found[LAST_NORM]}
    if UNEMBEDDING in names:
        state["unembedding"] = found[UNEMBEDDING]
    factors = np.ones(shape.head_size // 2, np.float32)
    state["rope_factors"] = found.get(ROPE_FACTORS, factors)
    for name in (*MATRICES, *shape.vector_sizes):
        layers = [found[layer_name(layer, name)] for layer in range(shape.layers)]
        state[name] = np.stack([_as_halves(rows, name, shape) for rows in layers])
    tensors = {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in state.items()}
    try:
        model.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise ModelError(f"the tensors of {path} are not those of its sizes: {error}") from error
    return model.requires_grad_(False)


def check_memory_to_read(path: Path, free_bytes: int | None) -> None:
    """Whether the weights fit into main memory, in float32 and once more while layers are stacked.

    Raises:
        ModelError: they do not, or the file is broken.
    """
    num_values = sum(tensor.num_values for tensor in read_gguf_model(path).tensors)
    needed = 2 * num_values * np.dtype(np.float32).itemsize
    if free_bytes is not None and needed > free_bytes:
        raise ModelError(
            f"reading {path} takes {needed / (1 << 30):.1f} GiB of memory, and "
            f"{free_bytes / (1 << 30):.1f} are free"
        )


def layer_name(layer: int, name: str) -> str:
    """A file's name of what we call `name`."""
    if name.endswith("_bias"):
        return f"blk.{layer}.{_LAYER_NAMES[name.removesuffix('_bias')]}.bias"
    return f"blk.{layer}.{_LAYER_NAMES[name]}.weight"


def as_pairs(rows: Numbers, num_heads: int) -> Numbers:
    """Rows of queries or keys as a file has them: the two numbers of a pair are neighbours."""
    halves = rows.reshape(num_heads, 2, -1, rows.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows.shape))


def _as_halves(rows: Numbers, name: str, shape: LlamaShape) -> Numbers:
    num_heads = {"query": shape.heads, "key": shape.kv_heads}.get(name)
    if num_heads is None or shape.architecture != "llama":  # of its kin they are halves already
        return rows
    pairs = rows.reshape(num_heads, -1, 2, rows.shape[1])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def llama_shape(header: GgufHeader) -> LlamaShape:
    """Its sizes, from the head of its file alone.

    Raises:
        ModelError: it is of another architecture, or says something that is not known here.
    """
    architecture = next((a for a in _ARCHITECTURES if a == header.architecture), None)
    if architecture is None:
        raise ModelError(
            f"{header.path} is of the architecture {header.architecture or 'none'}; finetune knows "
            f"{', '.join(_ARCHITECTURES)} alone"
        )
    hidden, heads = _number(header, "embedding_length"), _number(header, "attention.head_count")
    head_size = header.number(f"{architecture}.attention.key_length") or hidden // heads
    if header.fields.get(f"{architecture}.rope.scaling.type") not in (None, b"none"):
        raise ModelError(f"{header.path} scales its rotations, which is not known here")
    turned = header.number(f"{architecture}.rope.dimension_count") or head_size
    if turned != head_size:
        raise ModelError(
            f"{header.path} turns {turned} of the {head_size} numbers of a head, which is not "
            "known here"
        )
    embedding = [tensor for tensor in header.tensors if tensor.name == EMBEDDING]
    if not embedding:
        raise ModelError(f"{header.path} has no tensor {EMBEDDING}")
    return LlamaShape(
        hidden=hidden,
        layers=_number(header, "block_count"),
        heads=heads,
        kv_heads=_kv_heads(header) or heads,
        ffn=_number(header, "feed_forward_length"),
        head_size=head_size,
        vocab_size=embedding[0].num_values // hidden,
        rope_theta=_real(header, "rope.freq_base", 10_000.0),
        # Float32 in the file: without rounding it would be 9.99999974e-06.
        norm_epsilon=round(_real(header, "attention.layer_norm_rms_epsilon", 1e-5), 12),
        architecture=architecture,
    )


def _kv_heads(header: GgufHeader) -> int | None:
    """One number, perhaps written for each layer."""
    key = f"{header.architecture}.attention.head_count_kv"
    by_layer = header.fields.get(key)
    if not isinstance(by_layer, list):
        return header.number(key)
    if len(set(by_layer)) != 1:
        raise ModelError(f"{header.path} has layers with other {key}, which is not known here")
    return int(by_layer[0])


def _number(header: GgufHeader, key: str) -> int:
    number = header.number(f"{header.architecture}.{key}")
    if not number:
        raise ModelError(f"{header.path} does not say its {header.architecture}.{key}")
    return number


def _real(header: GgufHeader, key: str, default: float) -> float:
    number = header.fields.get(f"{header.architecture}.{key}", default)
    return number if isinstance(number, float) else default


def _check_names(header: GgufHeader, shape: LlamaShape, names: set[str]) -> None:
    kinds = (*MATRICES, *shape.vector_sizes)
    layers = {layer_name(layer, name) for layer in range(shape.layers) for name in kinds}
    needed = layers | {EMBEDDING, LAST_NORM}
    if missing := sorted(needed - names):
        raise ModelError(f"{header.path} has no tensor {missing[0]}")
    if unknown := sorted(names - needed - {UNEMBEDDING, ROPE_FACTORS}):
        raise ModelError(
            f"{header.path} has a tensor {unknown[0]}, which a plain {shape.architecture} has not: "
            "finetune does not know it"
        )


def _check_vocabulary(header: GgufHeader, embedding: Numbers) -> None:
    tokens = header.fields.get("tokenizer.ggml.tokens")
    num_tokens = len(tokens) if isinstance(tokens, list) else 0
    if num_tokens != len(embedding):
        raise ModelError(
            f"the vocabulary of {header.path} does not fit: {num_tokens} tokens have a name, and "
            f"{len(embedding)} an embedding"
        )


def _numbers(*paths: Path) -> Iterator[tuple[str, Numbers]]:
    for path in paths:
        for tensor in gguf.GGUFReader(path).tensors:
            yield tensor.name, gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
