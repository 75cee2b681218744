"""Load a target model: a GGUF file, a safetensors directory or a hub name, on CPU or GPU."""

from __future__ import annotations

import contextlib
import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoModelForCausalLM, AutoTokenizer

from shared.errors import ModelError
from verifier.target.target_settings import TargetSettings
from verifier.torch_target.forward.block_cache import CacheShape
from verifier.torch_target.forward.torch_target import TorchTarget
from verifier.torch_target.loading.architecture import check_architecture
from verifier.torch_target.loading.gguf_reading import reading_once
from verifier.torch_target.loading.gguf_vocabulary import read_gguf_vocabulary
from verifier.torch_target.loading.kv_memory import check_cache_tokens
from verifier.torch_target.loading.model_memory import cache_tokens, gpu_has_room
from verifier.torch_target.loading.placement import place_target
from verifier.torch_target.loading.quantisation import check_can_quantise, quantise
from verifier.torch_target.loading.tokenizer import HuggingFaceTokenizer
from verifier.torch_target.loading.torch_device import (
    choose_device,
    choose_dtype,
    dtype_name,
    hardware_name,
)


@dataclass(frozen=True, slots=True)
class PlacedTarget:
    """A target that is ready, and what its times belong to."""

    target: TorchTarget
    tokenizer: HuggingFaceTokenizer
    hardware: str
    dtype: str
    is_on_gpu: bool


def load_target(path: Path, settings: TargetSettings) -> PlacedTarget:
    """The model and its tokenizer, ready to run.

    Raises:
        ModelError: a file is missing or unsuitable, or the device is not there, too
            small, or cannot compute so.
    """
    if not path.exists() and len(path.parts) != 2:  # two parts may be a name on the hub
        raise ModelError(f"there is no target model at {path}")
    device = choose_device(settings.device)
    dtype = choose_dtype(settings.dtype, device)
    _check_settings(settings, device, dtype)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    model, tokenizer = _read(path, dtype)
    vocabulary = read_gguf_vocabulary(path) if path.suffix == ".gguf" else None
    config = model.config.get_text_config()
    check_architecture(config)
    context_tokens = min(settings.context_tokens, int(config.max_position_embeddings))
    with gpu_has_room(model, dtype, settings.quantisation, device):
        quantise(model, settings.quantisation, device)
        model.to(device=device, dtype=dtype)
        target = place_target(
            model,
            _cache_shape(model, settings, device, dtype, context_tokens),
            device=device,
            dtype=dtype,
            model_name=path.stem if path.suffix == ".gguf" else path.name,
            is_batch_invariant=settings.batch_invariant,
        )
    return PlacedTarget(
        target,
        HuggingFaceTokenizer(
            tokenizer, target.vocab_size, _end_ids(model), vocabulary, settings.template
        ),
        hardware=hardware_name(device),
        dtype=dtype_name(dtype),
        is_on_gpu=device.type == "cuda",
    )


def _check_settings(settings: TargetSettings, device: torch.device, dtype: torch.dtype) -> None:
    check_can_quantise(settings.quantisation, device)
    if settings.batch_invariant and device.type == "cpu" and dtype is not torch.float32:
        raise ModelError(
            f"target.batch_invariant needs float32 on a CPU, not target.dtype {settings.dtype}"
        )


def _cache_shape(
    model: Any,
    settings: TargetSettings,
    device: torch.device,
    dtype: torch.dtype,
    context_tokens: int,
) -> CacheShape:
    """What the cache of a model holds that is on its device already."""
    num_tokens = settings.kv_cache_tokens
    if num_tokens == "auto":
        num_tokens = cache_tokens(
            model,
            dtype,
            device,
            context_tokens=context_tokens,
            max_round_tokens=settings.max_round_tokens,
            memory_fraction=settings.memory_fraction,
        )
    check_cache_tokens(num_tokens, context_tokens, settings.max_round_tokens)
    return CacheShape(
        num_blocks=-(-num_tokens // settings.block_tokens),
        block_tokens=settings.block_tokens,
        context_tokens=context_tokens,
    )


def _read(path: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """Model and tokenizer of transformers, in main memory."""
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    source = _source(path)
    try:
        # The GGUF reader draws a progress bar that no setting of transformers turns off.
        with contextlib.redirect_stderr(io.StringIO()), reading_once():
            tokenizer = AutoTokenizer.from_pretrained(**source, trust_remote_code=False)
            model: Any = AutoModelForCausalLM.from_pretrained(
                **source, dtype=dtype, trust_remote_code=False
            )
    except (
        OSError,
        ValueError,
        LookupError,
        ImportError,
        TypeError,
        StrictDataclassError,  # a field of the file is not what transformers expects
        NotImplementedError,
        struct.error,
    ) as error:
        first_line = str(error).strip().replace(":\n", ":").split("\n")[0]
        raise ModelError(f"cannot load {path} as a target: {first_line}") from error
    return model.eval(), tokenizer


def _end_ids(model: Any) -> list[int]:
    """The ids that end a text, by the model's own generation settings."""
    end_ids = model.generation_config.eos_token_id
    return end_ids if isinstance(end_ids, list) else [end_ids] if end_ids is not None else []


def _source(path: Path) -> dict[str, Any]:
    """What `from_pretrained` wants: a directory, and the GGUF file in it."""
    if path.suffix == ".gguf":
        return {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    return {"pretrained_model_name_or_path": str(path)}
