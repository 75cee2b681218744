"""Writes GGUF models of a few kilobytes with random float32 weights, for tests of llama.cpp."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

TINY_VOCAB_SIZE = 304
END_ID = 256
TOOL_ID = 257
PADDING_ID = 258
LONG_ID = 259
LONG_TEXT = "<" + "long" * 30 + ">"
_EMBEDDING = 64
_LAYERS = 2
_CONTEXT = 512


def write_tiny_llama(
    path: Path,
    seed: int = 0,
    *,
    tensors_per_part: int = 0,
    without: Collection[str] = (),
    edit: Callable[[gguf.GGUFWriter], None] | None = None,
    kv_heads: int | list[int] = 2,
    architecture: str = "llama",
    spare_tokens: int = 0,
    context_tokens: int = _CONTEXT,
) -> None:
    """Write a transformer of two layers with grouped-query attention.

    It may be wrong: without some of its tensors, with some more that `edit` adds, with a vocabulary
    that is longer than the model by `spare_tokens`.
    """
    writer = gguf.GGUFWriter(path, architecture, split_max_tensors=tensors_per_part)
    _write_head(writer, spare_tokens, context_tokens)
    writer.add_head_count(4)
    writer.add_head_count_kv(kv_heads)
    writer.add_feed_forward_length(128)
    writer.add_rope_dimension_count(16)
    if edit is not None:
        edit(writer)
    tensors = _Tensors(writer, seed, without)
    for layer in range(_LAYERS):
        block = f"blk.{layer}"
        tensors.ones(f"{block}.attn_norm.weight", _EMBEDDING)
        tensors.random(f"{block}.attn_q.weight", _EMBEDDING, _EMBEDDING)
        tensors.random(f"{block}.attn_k.weight", 32, _EMBEDDING)
        tensors.random(f"{block}.attn_v.weight", 32, _EMBEDDING)
        tensors.random(f"{block}.attn_output.weight", _EMBEDDING, _EMBEDDING)
        tensors.ones(f"{block}.ffn_norm.weight", _EMBEDDING)
        tensors.random(f"{block}.ffn_gate.weight", 128, _EMBEDDING)
        tensors.random(f"{block}.ffn_up.weight", 128, _EMBEDDING)
        tensors.random(f"{block}.ffn_down.weight", _EMBEDDING, 128)
    _write_file(writer)


def write_tiny_mamba(path: Path, seed: int = 0) -> None:
    """Write a recurrent model: llama.cpp cannot remove a part of its sequences."""
    inner, state, rank, kernel = 128, 8, 4, 4
    writer = gguf.GGUFWriter(path, "mamba")
    _write_head(writer)
    writer.add_head_count(0)
    writer.add_feed_forward_length(0)
    writer.add_ssm_conv_kernel(kernel)
    writer.add_ssm_inner_size(inner)
    writer.add_ssm_state_size(state)
    writer.add_ssm_time_step_rank(rank)
    tensors = _Tensors(writer, seed)
    for layer in range(_LAYERS):
        block = f"blk.{layer}"
        tensors.ones(f"{block}.attn_norm.weight", _EMBEDDING)
        tensors.random(f"{block}.ssm_in.weight", 2 * inner, _EMBEDDING)
        tensors.random(f"{block}.ssm_conv1d.weight", inner, kernel)
        tensors.random(f"{block}.ssm_conv1d.bias", inner)
        tensors.random(f"{block}.ssm_x.weight", rank + 2 * state, inner)
        tensors.random(f"{block}.ssm_dt.weight", inner, rank)
        tensors.random(f"{block}.ssm_dt.bias", inner)
        tensors.decay(f"{block}.ssm_a", inner, state)
        tensors.ones(f"{block}.ssm_d", inner)
        tensors.random(f"{block}.ssm_out.weight", _EMBEDDING, inner)
    _write_file(writer)


class _Tensors:
    def __init__(self, writer: gguf.GGUFWriter, seed: int, without: Collection[str] = ()) -> None:
        self._writer = writer
        self._without = without
        self._generator = np.random.default_rng(seed)
        self.random("token_embd.weight", TINY_VOCAB_SIZE, _EMBEDDING)
        self.ones("output_norm.weight", _EMBEDDING)
        self.random("output.weight", TINY_VOCAB_SIZE, _EMBEDDING)

    def random(self, name: str, *shape: int) -> None:
        scale = 2.0 / np.sqrt(shape[-1])
        self._add(name, self._generator.standard_normal(shape) * scale)

    def ones(self, name: str, size: int) -> None:
        self._add(name, np.ones(size))

    def decay(self, name: str, *shape: int) -> None:
        self._add(name, -self._generator.uniform(0.5, 4.0, shape))

    def _add(self, name: str, values: NDArray[np.float64]) -> None:
        if name not in self._without:
            self._writer.add_tensor(name, values.astype(np.float32))


def _write_head(
    writer: gguf.GGUFWriter, spare_tokens: int = 0, context_tokens: int = _CONTEXT
) -> None:
    writer.add_context_length(context_tokens)
    writer.add_embedding_length(_EMBEDDING)
    writer.add_block_count(_LAYERS)
    writer.add_layer_norm_rms_eps(1e-5)
    tokens = [*_byte_characters(), "<|im_end|>", "<tool>", "[PAD258]", LONG_TEXT]
    types = [gguf.TokenType.NORMAL] * 256
    types += [gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED]
    types += [gguf.TokenType.UNUSED, gguf.TokenType.USER_DEFINED]
    num_words = TINY_VOCAB_SIZE + spare_tokens - len(tokens)
    tokens += [*(f"Ġword{number}" for number in range(num_words - 1)), "Ġw"]
    types += [gguf.TokenType.NORMAL] * num_words
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(["Ġ w"])
    writer.add_eos_token_id(END_ID)


def _byte_characters() -> list[str]:
    """One character for each byte, by the byte-level vocabulary of GPT-2."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    characters = {byte: chr(byte) for byte in printable}
    others = [byte for byte in range(256) if byte not in characters]
    characters |= {byte: chr(256 + place) for place, byte in enumerate(others)}
    return [characters[byte] for byte in range(256)]


def _write_file(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
