"""A rank's part of a model from its files: of each tensor what the rank has, and no more.

Safetensors give any part of a tensor; of GGUF files rows are taken before they are widened, so what
is cut by its inputs is widened whole, one tensor after the other. All else of loading, and the
check that no tensor is missing or left over, is that of a whole model (`read_model`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from huggingface_hub import snapshot_download
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import GenerationConfig
from transformers.modeling_gguf_pytorch_utils import (
    TENSOR_PROCESSORS,
    TensorProcessor,
    get_gguf_hf_weights_map,
)

from verifier.torch_target.kernels.head_shape import HeadShape
from verifier.torch_target.model_files.gguf_parts import GgufModel
from verifier.torch_target.parallel.split import Cut, Split
from verifier.torch_target.precision.checkpoint_files import safetensors_files


class RankParts:
    """A rank's part of a model on its way from files, in the place of transformers' reading."""

    def __init__(
        self,
        path: Path,
        gguf_model: GgufModel | None,
        split: Split,
        outline: Any,
        dtype: torch.dtype,
        *,
        is_tied: bool,
    ) -> None:
        """`outline` is the rank's model without weights.

        `is_tied`: without a product for logits in the files it is the embedding.
        """
        self._path, self._gguf = path, gguf_model
        self._split, self._outline, self._dtype = split, outline, dtype
        names = {id(module): name for name, module in outline.named_modules()}
        self._head = f"{names[id(outline.get_output_embeddings())]}.weight"
        self._is_tied = is_tied

    def load(self, config: Any, **options: Any) -> Any:
        """What `from_pretrained` gives with these options, inside of `quiet_reading`.

        Raises:
            ModelError: a file is missing.
            Exception: whatever transformers raises.
        """
        if self._gguf is None:
            directory = _directory(self._path)
            tensors = dict(self._of_safetensors(directory))
            if (directory / "generation_config.json").is_file():
                options["generation_config"] = GenerationConfig.from_pretrained(directory)
        else:
            tensors = dict(self._of_gguf(self._gguf))
        head = tensors.pop(self._head, None)
        model_class: Any = type(self._outline)
        model, report = model_class.from_pretrained(
            None, config=config, state_dict=tensors, **options
        )
        if head is None and not self._is_tied:
            report["missing_keys"] = {*report["missing_keys"], self._head}
        if head is None:
            head = _cut(model.get_input_embeddings().weight.detach(), self._split.of_logits)
        model.set_output_embeddings(self._logits(head, config.vocab_size))
        return model, report

    def _of_safetensors(self, directory: Path) -> Iterator[tuple[str, Tensor]]:
        for path in safetensors_files(directory):
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 (it is no mapping)
                    stored, cut = file.get_slice(name), self._cut_of(name)
                    if cut is None:
                        yield name, self._taken(name, file.get_tensor(name))
                        continue
                    start, end = cut.bounds(stored.get_shape()[cut.dimension])
                    part = stored[start:end] if cut.dimension == 0 else stored[:, start:end]
                    yield name, self._taken(name, part)

    def _of_gguf(self, model: GgufModel) -> Iterator[tuple[str, Tensor]]:
        heads = HeadShape.of(self._outline.config)
        # Rows of queries and keys stand in another order there, within each head.
        of_rank = {
            "num_attention_heads": heads.num_heads,
            "num_key_value_heads": heads.num_kv_heads,
        }
        kind: Any = TENSOR_PROCESSORS.get(model.parts[0].architecture, TensorProcessor)
        processor = kind(config=of_rank)
        places: dict[str, str] = get_gguf_hf_weights_map(self._outline, processor)
        for tensor in gguf.GGUFReader(model.path).tensors:
            place = places.get(tensor.name)
            if place is None:
                continue  # `read_model` says so
            cut, rows = self._cut_of(place), tensor.data
            if cut is not None and cut.dimension == 0:
                start, end = cut.bounds(len(rows))
                rows, cut = rows[start:end], None
            processed = processor.process(
                weights=gguf.dequantize(rows, tensor.tensor_type),
                name=tensor.name,
                tensor_key_mapping=places,
                parsed_parameters={},
            )
            whole = torch.from_numpy(np.copy(processed.weights))
            yield place, self._taken(place, whole if cut is None else _cut(whole, cut))

    def _cut_of(self, name: str) -> Cut | None:
        return self._split.of_logits if name == self._head else self._split.cut_of(name)

    def _taken(self, name: str, part: Tensor) -> Tensor:
        if self._split.is_other_ranks(name):
            part = torch.zeros_like(part)
        return part.to(self._dtype).contiguous() if part.is_floating_point() else part

    def _logits(self, rows: Tensor, num_tokens: int) -> nn.Linear:
        """The rank's product for logits; all ranks' have as many rows."""
        start, end = self._split.of_logits.bounds(num_tokens)
        _, num_rows = Cut(0, self._split.num_ranks, 0).bounds(num_tokens)
        linear = nn.Linear(rows.shape[1], num_rows, bias=False, device="meta")
        missing = num_rows - (end - start)
        weight = pad(rows, (0, 0, 0, missing)) if missing else rows
        linear.weight = nn.Parameter(weight, requires_grad=False)
        return linear


def _cut(whole: Tensor, cut: Cut) -> Tensor:
    start, end = cut.bounds(whole.shape[cut.dimension])
    return whole.narrow(cut.dimension, start, end - start)


def _directory(path: Path) -> Path:
    if path.is_dir():
        return path
    return Path(snapshot_download(str(path), allow_patterns=["*.safetensors", "*.json"]))
