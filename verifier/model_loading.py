"""Load a target model: a GGUF file, a safetensors directory or a hub name, on CPU or GPU."""

from __future__ import annotations

import contextlib
import io
import struct
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from shared.errors import ModelError
from verifier.gguf_reading import reading_once
from verifier.packed_linear import can_pack, pack_linears
from verifier.tokenizer import HuggingFaceTokenizer
from verifier.torch_target import TorchTarget


def load_target(
    path: Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    threads: int = 0,
    context_tokens: int = 2048,
    kv_cache_tokens: int = 16384,
    block_tokens: int = 16,
) -> tuple[TorchTarget, HuggingFaceTokenizer]:
    """The model and its tokenizer, ready to run.

    `device` auto takes the first GPU if there is one; `dtype` auto is bfloat16 there and float32
    on a CPU; `threads` 0 leaves torch's choice.

    Raises:
        ModelError: a file is missing or unsuitable, or the device is not there.
    """
    if not path.exists() and len(path.parts) != 2:  # two parts may be a name on the hub
        raise ModelError(f"there is no target model at {path}")
    place = _device(device)
    if threads:
        torch.set_num_threads(threads)
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    source = _source(path)
    try:
        # The GGUF reader draws a progress bar that no setting of transformers turns off.
        with contextlib.redirect_stderr(io.StringIO()), reading_once():
            tokenizer = AutoTokenizer.from_pretrained(**source, trust_remote_code=False)
            model: Any = AutoModelForCausalLM.from_pretrained(
                **source,
                dtype=_dtype(dtype, place),
                trust_remote_code=False,
            )
    except (
        OSError,
        ValueError,
        LookupError,
        ImportError,
        NotImplementedError,
        struct.error,
    ) as error:
        first_line = str(error).strip().split("\n")[0]
        raise ModelError(f"cannot load {path} as a target: {first_line}") from error
    if can_pack(place, _dtype(dtype, place)):
        pack_linears(model.to(_dtype(dtype, place)))
    target = TorchTarget(
        model,
        device=place,
        dtype=_dtype(dtype, place),
        model_name=path.stem if path.suffix == ".gguf" else path.name,
        num_blocks=-(-kv_cache_tokens // block_tokens),
        block_tokens=block_tokens,
        context_tokens=min(context_tokens, _longest_sequence(model)),
    )
    return target, HuggingFaceTokenizer(tokenizer, target.vocab_size, _end_ids(model))


def _end_ids(model: Any) -> list[int]:
    """The ids that end a text, by the model's own generation settings."""
    end_ids = model.generation_config.eos_token_id
    return end_ids if isinstance(end_ids, list) else [end_ids] if end_ids is not None else []


def _longest_sequence(model: Any) -> int:
    return int(model.config.get_text_config().max_position_embeddings)


def _source(path: Path) -> dict[str, Any]:
    """What `from_pretrained` wants: a directory, and the GGUF file in it."""
    if path.suffix == ".gguf":
        return {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    return {"pretrained_model_name_or_path": str(path)}


def _device(name: str) -> torch.device:
    has_cuda = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if has_cuda else "cpu")
    if name.startswith("cuda") and not has_cuda:
        raise ModelError(f"target.device is {name}, but torch sees no GPU here")
    device = torch.device(name)
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ModelError(f"target.device is {name}, but there are {count} GPUs here")
    return device


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype
