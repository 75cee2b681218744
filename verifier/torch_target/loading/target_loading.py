"""Load a target model: a GGUF file, a safetensors directory or a hub name, on CPU or GPU."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from shared.daemon.model_border import model_border
from shared.errors import ModelError
from shared.speculation.model_defaults import ModelDefaults
from verifier.target.rank_place import RankPlace
from verifier.target.target_settings import TargetSettings
from verifier.torch_target.forward.block_cache import CacheShape
from verifier.torch_target.forward.torch_target import TorchTarget
from verifier.torch_target.forward.weights import move_weights
from verifier.torch_target.kernels.head_shape import HeadShape
from verifier.torch_target.layers.packed_linear import can_pack
from verifier.torch_target.layers.stored_embedding import can_store, store_embedding
from verifier.torch_target.loading.architecture import check_architecture
from verifier.torch_target.loading.embedding_rows import embedding_rows
from verifier.torch_target.loading.gguf_vocabulary import GgufVocabulary, vocabulary_of
from verifier.torch_target.loading.kv_memory import cache_tokens_of_cpu, check_cache_tokens
from verifier.torch_target.loading.model_memory import (
    cache_tokens,
    check_before_reading,
    gpu_has_room,
    target_shape,
    weight_bytes,
)
from verifier.torch_target.loading.model_reading import (
    ModelFiles,
    find_model,
    outline,
    quiet_reading,
    read_config,
    read_model,
    read_tokenizer,
)
from verifier.torch_target.loading.placement import place_target
from verifier.torch_target.loading.tokenizer import HuggingFaceTokenizer, check_tokenizer
from verifier.torch_target.model_files.end_ids import end_ids
from verifier.torch_target.model_files.sampling_defaults import sampling_defaults
from verifier.torch_target.parallel.part_reading import RankParts
from verifier.torch_target.parallel.rank_group import RankGroup, device_of_rank
from verifier.torch_target.parallel.split import (
    Split,
    check_can_split,
    check_parts,
    rank_config,
)
from verifier.torch_target.precision.checkpoint_layers import (
    CheckpointLayers,
    checkpoint_layers,
    use_own_products,
)
from verifier.torch_target.precision.quantisation import check_can_quantise, quantise
from verifier.torch_target.precision.torch_device import (
    choose_device,
    choose_dtype,
    dtype_name,
    hardware_name,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PlacedTarget:
    """A target that is ready, and what its times belong to."""

    target: TorchTarget
    tokenizer: HuggingFaceTokenizer
    hardware: str
    dtype: str
    is_on_gpu: bool
    defaults: ModelDefaults  # what the model says of itself


def load_target(
    path: Path, settings: TargetSettings, place: RankPlace | None = None
) -> PlacedTarget:
    """The model and its tokenizer, ready to run.

    With a `place` it is a rank's part of the model, and all ranks load at the same time.

    Raises:
        ModelError: a file is missing, broken or unsuitable, or the device is not there, too
            small, or cannot compute so.
    """
    if not path.exists() and len(path.parts) != 2:  # two parts may be a name on the hub
        raise ModelError(f"there is no target model at {path}")
    with model_border(f"cannot load {path} as a target"):
        return _load(path, settings, place)


def _load(path: Path, settings: TargetSettings, place: RankPlace | None) -> PlacedTarget:
    device = choose_device(settings.device)
    if place is not None:
        device = device_of_rank(place, device, settings)
    dtype = choose_dtype(settings.dtype, device)
    _check_settings(settings, device, dtype)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    files = find_model(path)
    vocabulary = None if files.gguf is None else vocabulary_of(files.gguf.parts[0])
    with quiet_reading(files):
        config = read_config(files)
        text_config = config.get_text_config()
        check_architecture(text_config)
        _check_vocabulary(files, vocabulary, text_config)
        context_tokens = _context_tokens(settings, text_config)
        plan = outline(config, dtype)
        layers: CheckpointLayers | RankParts | None = None
        if place is not None:
            config, plan, layers = _part(files, config, plan, dtype, place)
        elif files.gguf is None:
            layers = checkpoint_layers(path, config, plan, settings, device, dtype)
        cpu_cache_tokens = _cpu_cache_tokens(settings, context_tokens)
        check_before_reading(plan, dtype, settings.quantisation, device, cpu_cache_tokens)
        tokenizer = read_tokenizer(files)
        check_tokenizer(tokenizer, vocabulary, settings.template)
        group = None if place is None else RankGroup(place, device)
        model = read_model(files, config, dtype, layers)
        read_rows = embedding_rows(files) if device.type == "cpu" else None
    with gpu_has_room(model, dtype, settings.quantisation, device):
        quantise(model, settings.quantisation, device)
        use_own_products(model, device, dtype)
        move_weights(model, device, dtype)
        shares_weight = can_pack(dtype) and can_store(model)
        cache_shape = _cache_shape(model, settings, device, dtype, context_tokens, group)
        _tell_memory(model, cache_shape, settings, dtype)
        target = place_target(
            model,
            cache_shape,
            device=device,
            dtype=dtype,
            model_name=files.model_name,
            is_batch_invariant=settings.batch_invariant,
            group=group,
        )
    if place is not None and place.tell is not None:
        target.lead(place.tell)
    if shares_weight and read_rows is not None:
        store_embedding(model.get_input_embeddings(), read_rows)
    ends = end_ids(model, files.gguf)
    return PlacedTarget(
        target,
        HuggingFaceTokenizer(tokenizer, target.vocab_size, ends, vocabulary, settings.template),
        hardware=hardware_name(device) + ("" if place is None else f" × {place.num_ranks}"),
        dtype=dtype_name(dtype),
        is_on_gpu=device.type == "cuda",
        defaults=sampling_defaults(model, files.gguf),
    )


def _part(
    files: ModelFiles, config: Any, whole: Any, dtype: torch.dtype, place: RankPlace
) -> tuple[Any, Any, RankParts]:
    """A rank's configuration, its model without weights, and what reads them.

    Raises:
        ModelError: the model cannot be divided so.
    """
    check_can_split(config, whole, place.num_ranks)
    split = Split(place.rank, place.num_ranks, HeadShape.of(config))
    own_config = rank_config(config, place.num_ranks)
    plan = outline(own_config, dtype)
    check_parts(split, whole, plan)
    is_tied = bool(config.tie_word_embeddings)
    return own_config, plan, RankParts(files.path, files.gguf, split, plan, dtype, is_tied=is_tied)


def _tell_memory(
    model: Any, cache_shape: CacheShape, settings: TargetSettings, dtype: torch.dtype
) -> None:
    num_tokens = cache_shape.num_blocks * cache_shape.block_tokens
    logger.info(
        "memory: weights %.0f MB, key/value cache of %d tokens %.0f MB",
        weight_bytes(model, dtype, settings.quantisation) / 1e6,
        *(num_tokens, num_tokens * target_shape(model, dtype).cached_token_bytes / 1e6),
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
    group: RankGroup | None,
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
        num_tokens = num_tokens if group is None else group.least(num_tokens)
    check_cache_tokens(num_tokens, context_tokens, settings.max_round_tokens)
    return CacheShape(
        num_blocks=-(-num_tokens // settings.block_tokens),
        block_tokens=settings.block_tokens,
        context_tokens=context_tokens,
    )


def _cpu_cache_tokens(settings: TargetSettings, context_tokens: int) -> int:
    if settings.kv_cache_tokens != "auto":
        return settings.kv_cache_tokens
    return cache_tokens_of_cpu(context_tokens, settings.max_round_tokens)


def _context_tokens(settings: TargetSettings, config: Any) -> int:
    """The longest stream: no longer than those that the model was trained with."""
    trained_tokens = getattr(config, "max_position_embeddings", None)
    if trained_tokens is None or settings.context_tokens <= trained_tokens:
        return settings.context_tokens
    logger.info(
        "target.context_tokens = %d is lowered to %d, which the model was trained for",
        *(settings.context_tokens, trained_tokens),
    )
    return int(trained_tokens)


def _check_vocabulary(files: ModelFiles, vocabulary: GgufVocabulary | None, config: Any) -> None:
    num_tokens = 0 if vocabulary is None else len(vocabulary.token_bytes)
    if num_tokens > config.vocab_size:
        raise ModelError(
            f"cannot load {files.path} as a target: its vocabulary has {num_tokens} tokens, "
            f"and the model {config.vocab_size}"
        )
