"""Load a target model: a GGUF file, a safetensors directory or a hub name, on CPU or GPU."""

from __future__ import annotations

import contextlib
import io
import struct
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoModelForCausalLM, AutoTokenizer

from shared.errors import ModelError
from verifier.torch_target.forward.torch_target import TorchTarget
from verifier.torch_target.layers.packed_linear import can_pack, pack_linears
from verifier.torch_target.loading.architecture import check_architecture
from verifier.torch_target.loading.gguf_reading import reading_once
from verifier.torch_target.loading.gguf_vocabulary import read_gguf_vocabulary
from verifier.torch_target.loading.kv_memory import CacheTokens, check_cache_tokens
from verifier.torch_target.loading.model_memory import cache_tokens, gpu_has_room
from verifier.torch_target.loading.quantisation import Quantisation, check_can_quantise, quantise
from verifier.torch_target.loading.tokenizer import HuggingFaceTokenizer
from verifier.torch_target.loading.torch_device import choose_device, choose_dtype


def load_target(
    path: Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    quantisation: Quantisation = "none",
    batch_invariant: bool = False,
    threads: int = 0,
    context_tokens: int = 2048,
    kv_cache_tokens: CacheTokens = "auto",
    block_tokens: int = 16,
    max_round_tokens: int = 512,
    memory_fraction: float = 0.9,
) -> tuple[TorchTarget, HuggingFaceTokenizer]:
    """The model and its tokenizer, ready to run.

    `device` and `dtype` are as `torch_device` chooses them; `threads` 0 leaves torch's choice;
    `batch_invariant` makes a GPU give every stream the numbers that it would give it alone;
    `kv_cache_tokens` auto takes `memory_fraction` of what weights and a round of
    `max_round_tokens` leave free on a GPU.

    Raises:
        ModelError: a file is missing or unsuitable, or the device is not there, too
            small, or cannot compute so.
    """
    if not path.exists() and len(path.parts) != 2:  # two parts may be a name on the hub
        raise ModelError(f"there is no target model at {path}")
    place = choose_device(device)
    element = choose_dtype(dtype, place)
    check_can_quantise(quantisation, place)
    if batch_invariant and place.type == "cpu" and element is not torch.float32:
        raise ModelError(f"target.batch_invariant needs float32 on a CPU, not target.dtype {dtype}")
    if threads:
        torch.set_num_threads(threads)
    model, tokenizer = _read(path, element)
    vocabulary = read_gguf_vocabulary(path) if path.suffix == ".gguf" else None
    check_architecture(model.config.get_text_config())
    context_tokens = min(context_tokens, _longest_sequence(model))
    with gpu_has_room(model, element, quantisation, place):
        quantise(model, quantisation, place)
        if can_pack(place, element):
            pack_linears(model.to(element))
        model.to(device=place, dtype=element)
        if kv_cache_tokens == "auto":
            kv_cache_tokens = cache_tokens(
                model,
                element,
                place,
                context_tokens=context_tokens,
                max_round_tokens=max_round_tokens,
                memory_fraction=memory_fraction,
            )
        check_cache_tokens(kv_cache_tokens, context_tokens, max_round_tokens)
        target = TorchTarget(
            model,
            device=place,
            dtype=element,
            model_name=path.stem if path.suffix == ".gguf" else path.name,
            num_blocks=-(-kv_cache_tokens // block_tokens),
            block_tokens=block_tokens,
            context_tokens=context_tokens,
            is_batch_invariant=batch_invariant,
        )
    return target, HuggingFaceTokenizer(tokenizer, target.vocab_size, _end_ids(model), vocabulary)


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


def _longest_sequence(model: Any) -> int:
    return int(model.config.get_text_config().max_position_embeddings)


def _source(path: Path) -> dict[str, Any]:
    """What `from_pretrained` wants: a directory, and the GGUF file in it."""
    if path.suffix == ".gguf":
        return {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    return {"pretrained_model_name_or_path": str(path)}
