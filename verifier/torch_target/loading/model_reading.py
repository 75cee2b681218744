"""From files to a model and a tokenizer of transformers, in main memory: all of it or nothing.

It must never serve a tensor that no file has, nor leave one out that a file has.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import torch
import transformers
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_gguf_pytorch_utils import (
    TENSOR_PROCESSORS,
    TensorProcessor,
    get_gguf_hf_weights_map,
)

from shared.errors import ModelError
from verifier.torch_target.loading.gguf_reading import reading_once
from verifier.torch_target.model_files.gguf_header import is_gguf
from verifier.torch_target.model_files.gguf_parts import (
    GgufModel,
    check_head_counts,
    read_gguf_model,
)
from verifier.torch_target.model_files.rope_factors import ROPE_FACTORS, apply_rope_factors
from verifier.torch_target.model_files.tensor_check import check_tensors, check_unexpected
from verifier.torch_target.parallel.part_reading import RankParts
from verifier.torch_target.precision.checkpoint_layers import CheckpointLayers


class ModelFiles(msgspec.Struct, frozen=True):
    """Where a model is; `gguf` where that is a GGUF file."""

    path: Path
    gguf: GgufModel | None

    @property
    def model_name(self) -> str:
        """The model's name, by that of its files."""
        return self.path.name if self.gguf is None else self.gguf.name

    @property
    def source(self) -> dict[str, Any]:
        """What `from_pretrained` wants: a directory, and the GGUF file in it."""
        place = {"trust_remote_code": False, "pretrained_model_name_or_path": str(self.path)}
        if self.gguf is None:
            return place
        return place | {
            "pretrained_model_name_or_path": str(self.path.parent),
            "gguf_file": self.path.name,
        }


def find_model(path: Path) -> ModelFiles:
    """What is at a path: a GGUF file with all its parts, or something that transformers knows.

    Raises:
        ModelError: it is a file of another kind, or one that is broken.
    """
    if not path.is_file():
        _check_safetensors(path)
        return ModelFiles(path, None)
    if not is_gguf(path):
        raise ModelError(f"{path} is not a GGUF file; a target is one, or a safetensors directory")
    gguf_model = read_gguf_model(path)
    check_head_counts(gguf_model)
    return ModelFiles(path, gguf_model)


def _check_safetensors(directory: Path) -> None:
    """Name the file that is broken; transformers would only say that one is."""
    for path in sorted(directory.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt"):
                pass
        except SafetensorError as error:
            raise ModelError(f"{path} is cut or broken: {error}") from error


@contextlib.contextmanager
def quiet_reading(files: ModelFiles) -> Iterator[None]:
    """Around all reading of one model: transformers says nothing, and reads a GGUF file once."""
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    other_paths = () if files.gguf is None else files.gguf.other_paths
    # The GGUF reader draws a progress bar that no setting of transformers turns off.
    with contextlib.redirect_stderr(io.StringIO()), reading_once(other_paths):
        yield


def read_config(files: ModelFiles) -> Any:
    """The model's configuration; inside of `quiet_reading`."""
    return AutoConfig.from_pretrained(**files.source)


def outline(config: Any, dtype: torch.dtype) -> Any:
    """The model without its weights: to see how large it is before any memory is taken."""
    make: Any = AutoModelForCausalLM.from_config
    with torch.device("meta"):
        return make(config, dtype=dtype, trust_remote_code=False)


def read_tokenizer(files: ModelFiles) -> Any:
    """The model's tokenizer; inside of `quiet_reading`."""
    return AutoTokenizer.from_pretrained(**files.source)


def read_model(
    files: ModelFiles,
    config: Any,
    dtype: torch.dtype,
    layers: CheckpointLayers | RankParts | None = None,
) -> Any:
    """The model, in main memory; inside of `quiet_reading`.

    `layers` reads a checkpoint of fewer bits, or a rank's part.

    Raises:
        ModelError: the tensors of the files are not those of the model.
        Exception: whatever transformers raises.
    """
    of_transformers: Any = AutoModelForCausalLM.from_pretrained
    load = functools.partial(of_transformers, **files.source) if layers is None else layers.load
    model, report = load(
        config=config,
        dtype=dtype,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are in the report, with their names
    )
    if files.gguf is None:
        check_tensors(files.path, report)
    else:
        _check_gguf_tensors(files.gguf, model, report)
        apply_rope_factors(model, files.gguf)
    return model.eval()


def _check_gguf_tensors(gguf_model: GgufModel, model: Any, report: dict[str, Any]) -> None:
    """What transformers does not tell of a GGUF file: tensors that it leaves out."""
    architecture = gguf_model.parts[0].architecture
    processor: Any = TENSOR_PROCESSORS.get(architecture, TensorProcessor)
    places: dict[str, str] = get_gguf_hf_weights_map(model, processor(config={}))
    names = {place: name for name, place in places.items()}
    check_tensors(gguf_model.path, report, lambda place: names.get(place, place))
    # Experts' weights are known without the ending.
    known = places.keys() | {f"{name}.weight" for name in places} | {ROPE_FACTORS}
    unexpected = [tensor.name for tensor in gguf_model.tensors if tensor.name not in known]
    check_unexpected(gguf_model.path, unexpected)
