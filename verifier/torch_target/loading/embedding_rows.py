"""The rows of a model's embedding, read from its file one by one.

The file is mapped, so what is read of it are pages that the kernel can take back at any time. This
module must never read all rows.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor

from verifier.torch_target.layers.stored_embedding import ReadRows
from verifier.torch_target.loading.model_reading import ModelFiles

_GGUF_NAME = "token_embd.weight"
_SAFETENSORS_ENDING = "embed_tokens.weight"
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def embedding_rows(files: ModelFiles) -> ReadRows | None:
    """What reads rows of the embedding; inside of `quiet_reading`. None: nothing can."""
    return _safetensors_rows(files.path) if files.gguf is None else _gguf_rows(files.path)


def _gguf_rows(path: Path) -> ReadRows | None:
    tensors = [tensor for tensor in gguf.GGUFReader(path).tensors if tensor.name == _GGUF_NAME]
    if not tensors:
        return None
    stored, kind = tensors[0].data, tensors[0].tensor_type

    def read_rows(token_ids: Tensor) -> Tensor:
        return torch.from_numpy(gguf.dequantize(stored[token_ids.numpy()], kind))

    return read_rows


def _safetensors_rows(directory: Path) -> ReadRows | None:
    for path in sorted(directory.glob("*.safetensors")):
        stored = _mapped(path)
        if stored is not None:
            return lambda token_ids: stored[token_ids]
    return None


def _mapped(path: Path) -> Tensor | None:
    """The embedding in a file of safetensors: a length, that much JSON, and the tensors' bytes."""
    with path.open("rb") as file:
        (head_bytes,) = struct.unpack("<Q", file.read(8))
        head: dict[str, Any] = json.loads(file.read(head_bytes))
    for name, entry in head.items():
        if name.endswith(_SAFETENSORS_ENDING) and entry["dtype"] in _DTYPES:
            start, end = entry["data_offsets"]
            # Copied where it is written, which nothing does: torch warns of what cannot be written.
            place = 8 + head_bytes + start
            numbers = np.memmap(path, np.uint8, mode="c", offset=place, shape=(end - start,))
            return torch.from_numpy(numbers).view(_DTYPES[entry["dtype"]]).view(entry["shape"])
    return None
