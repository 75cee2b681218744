"""A draft as a GGUF file that llama.cpp runs: its own weights, the target's vocabulary.

What a file says beside sizes stays: of the vocabulary as the target has it, of the rest as the file
that the draft began from (the target's, for a new one). It must never change the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from shared.daemon.files import move_into_place
from verifier.finetune.llama.block_rounding import rounded
from verifier.finetune.llama.gguf_target import (
    EMBEDDING,
    LAST_NORM,
    ROPE_FACTORS,
    UNEMBEDDING,
    Numbers,
    as_pairs,
    layer_name,
)
from verifier.finetune.llama.llama_model import MATRICES, LlamaModel
from verifier.torch_target.loading.gguf_reading import reading_once

_RECIPE = "goodspeed.finetune.recipe"
# What is true of the file alone that a draft began from; the number of parts as well.
_OWN = (
    *("general.architecture", "general.file_type", "general.quantization_version"),
    *("general.basename", "general.finetune", "general.size_label", "general.name", _RECIPE),
)
_NOT_COPIED = ("GGUF.", "split.")
# What a body has of another one's architecture, and no other key of it.
_OF_A_BODY = ("context_length", "rope.freq_base", "attention.layer_norm_rms_epsilon")
_VOCABULARY = "tokenizer."
_QUANTISATION_VERSION = 2
_FILE_TYPES = {"Q4_0": gguf.LlamaFileType.MOSTLY_Q4_0, "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}


def write_draft(
    model: LlamaModel,
    target_path: Path,
    path: Path,
    *,
    kind: str,
    recipe: str,
    began_from: Path | None = None,
) -> None:
    """Write the file in one step: what was there stays until the new one is whole.

    `kind` is the type of all weights but norms; `recipe` is kept in the file; `began_from` is the
    file of a draft that was there.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    writer = gguf.GGUFWriter(fresh, model.shape.architecture)
    try:
        _write_head(writer, model, path.stem, target_path, began_from or target_path)
        writer.add_string(_RECIPE, recipe)
        writer.add_file_type(_FILE_TYPES[kind])
        writer.add_quantization_version(_QUANTISATION_VERSION)
        _write_tensors(writer, model, kind)
        move_into_place(fresh, path)
    finally:
        writer.close()
        fresh.unlink(missing_ok=True)


def _write_tensors(writer: gguf.GGUFWriter, model: LlamaModel, kind: str) -> None:
    block_type = gguf.GGMLQuantizationType[kind]
    for tensor, numbers in _tensors(model, kind):
        if numbers.ndim == 1:
            writer.add_tensor(tensor, numbers)
        else:
            writer.add_tensor(tensor, gguf.quantize(numbers, block_type), raw_dtype=block_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_head(
    writer: gguf.GGUFWriter, model: LlamaModel, name: str, target_path: Path, own_path: Path
) -> None:
    shape = model.shape
    num_weights = sum(weight.numel() for weight in model.parameters())
    writer.add_name(name)
    writer.add_size_label(f"{num_weights / 1e6:.0f}M")
    own = {
        "block_count": shape.layers,
        "embedding_length": shape.hidden,
        "feed_forward_length": shape.ffn,
        "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.kv_heads,
        "attention.key_length": shape.head_size,
        "attention.value_length": shape.head_size,
        "rope.dimension_count": shape.head_size,
        "vocab_size": shape.vocab_size,
    }
    for key, number in own.items():
        writer.add_uint32(f"{shape.architecture}.{key}", number)
    written = {*_OWN, *(f"{shape.architecture}.{key}" for key in own)}
    for source in dict.fromkeys((own_path, target_path)):
        with reading_once():
            fields = gguf.GGUFReader(source).fields
            others = fields["general.architecture"].contents()
            for name, field in fields.items():
                key = _key_of_body(name, others, shape.architecture)
                if not key or key in written or key.startswith(_NOT_COPIED):
                    continue
                if source == (target_path if key.startswith(_VOCABULARY) else own_path):
                    is_array = field.types[0] is gguf.GGUFValueType.ARRAY
                    item_type = field.types[-1] if is_array else None
                    writer.add_key_value(key, field.contents(), field.types[0], sub_type=item_type)


def _key_of_body(key: str, others: str, own: str) -> str:
    """What a key of a file is called in ours; empty: it has no place there."""
    prefix = f"{others}."
    if not key.startswith(prefix):
        return key
    name = key.removeprefix(prefix)
    if name.startswith("rope.scaling."):
        return ""
    return f"{own}.{name}" if others == own or name in _OF_A_BODY else ""


def _tensors(model: LlamaModel, kind: str) -> Iterator[tuple[str, Numbers]]:
    """Names and numbers; matrices are rounded already, so that writing them changes nothing."""
    yield EMBEDDING, _numbers(rounded(model.embedding, kind))
    yield LAST_NORM, _numbers(model.last_norm)
    if model.unembedding is not None:
        yield UNEMBEDDING, _numbers(rounded(model.unembedding, kind))
    factors = model.get_buffer("rope_factors")
    if (factors != 1).any():
        yield ROPE_FACTORS, _numbers(factors)
    heads = {"query": model.shape.heads, "key": model.shape.kv_heads}
    is_paired = model.shape.architecture == "llama"
    for layer in range(model.shape.layers):
        for name in model.shape.vector_sizes:
            yield layer_name(layer, name), _numbers(model.get_parameter(name)[layer])
        for name in MATRICES:
            numbers = _numbers(rounded(model.get_parameter(name)[layer], kind))
            if is_paired and name in heads:
                numbers = as_pairs(numbers, heads[name])
            yield layer_name(layer, name), numbers


def _numbers(tensor: Any) -> Numbers:
    return np.ascontiguousarray(tensor.detach().float().cpu().numpy())
