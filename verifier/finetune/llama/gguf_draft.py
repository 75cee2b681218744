"""A draft as a GGUF file that llama.cpp runs: its own weights, the target's vocabulary.

All of the target's metadata stays but what says sizes; it must never change the vocabulary.
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
    ARCHITECTURE,
    EMBEDDING,
    LAST_NORM,
    Numbers,
    as_pairs,
    layer_name,
)
from verifier.finetune.llama.llama_model import MATRICES, NORMS, LlamaModel
from verifier.torch_target.loading.gguf_reading import reading_once

# What is true of the target's file alone; the number of parts as well.
_TARGETS_OWN = (
    *("general.architecture", "general.file_type", "general.quantization_version"),
    *("general.basename", "general.finetune", "general.size_label", "general.name"),
)
_NOT_COPIED = ("GGUF.", "split.", f"{ARCHITECTURE}.rope.scaling.")
_RECIPE = "goodspeed.finetune.recipe"
_QUANTISATION_VERSION = 2
_FILE_TYPES = {"Q4_0": gguf.LlamaFileType.MOSTLY_Q4_0, "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}


def write_draft(
    model: LlamaModel, target_path: Path, path: Path, *, kind: str, recipe: str
) -> None:
    """Write the file in one step: what was there stays until the new one is whole.

    `kind` is the type of all weights but norms; `recipe` is kept in the file.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    try:
        _write(model, target_path, fresh, kind=kind, recipe=recipe, name=path.stem)
        move_into_place(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def _write(
    model: LlamaModel, target_path: Path, path: Path, *, kind: str, recipe: str, name: str
) -> None:
    writer = gguf.GGUFWriter(path, ARCHITECTURE)
    _write_head(writer, model, target_path, name)
    writer.add_string(_RECIPE, recipe)
    writer.add_file_type(_FILE_TYPES[kind])
    writer.add_quantization_version(_QUANTISATION_VERSION)
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


def _write_head(writer: Any, model: LlamaModel, target_path: Path, name: str) -> None:
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
    }
    for key, number in own.items():
        writer.add_uint32(f"{ARCHITECTURE}.{key}", number)
    written = {*_TARGETS_OWN, *(f"{ARCHITECTURE}.{key}" for key in own)}
    with reading_once():
        fields = gguf.GGUFReader(target_path).fields
        for key, field in fields.items():
            if key in written or key.startswith(_NOT_COPIED):
                continue
            is_array = field.types[0] is gguf.GGUFValueType.ARRAY
            item_type = field.types[-1] if is_array else None
            writer.add_key_value(key, field.contents(), field.types[0], sub_type=item_type)


def _tensors(model: LlamaModel, kind: str) -> Iterator[tuple[str, Numbers]]:
    """Names and numbers; matrices are rounded already, so that writing them changes nothing."""
    yield EMBEDDING, _numbers(rounded(model.embedding, kind))
    yield LAST_NORM, _numbers(model.last_norm)
    heads = {"query": model.shape.heads, "key": model.shape.kv_heads}
    for layer in range(model.shape.layers):
        for name in NORMS:
            yield layer_name(layer, name), _numbers(model.get_parameter(name)[layer])
        for name in MATRICES:
            numbers = _numbers(rounded(model.get_parameter(name)[layer], kind))
            if name in heads:
                numbers = as_pairs(numbers, heads[name])
            yield layer_name(layer, name), numbers


def _numbers(tensor: Any) -> Numbers:
    return np.ascontiguousarray(tensor.detach().float().cpu().numpy())
