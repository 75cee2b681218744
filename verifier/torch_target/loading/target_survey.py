"""How much a target would take of its device, by the shapes in its files: no weight is read."""

from __future__ import annotations

from pathlib import Path

import torch

from shared.daemon.model_border import model_border
from shared.daemon.resources.main_memory import free_main_memory
from verifier.target.target_need import TargetNeed
from verifier.target.target_settings import TargetSettings
from verifier.torch_target.loading.architecture import check_architecture
from verifier.torch_target.loading.kv_memory import cache_tokens_of_cpu
from verifier.torch_target.loading.model_memory import target_shape, weight_bytes
from verifier.torch_target.loading.model_reading import (
    find_model,
    outline,
    quiet_reading,
    read_config,
)
from verifier.torch_target.precision.checkpoint_layers import checkpoint_layers
from verifier.torch_target.precision.torch_device import (
    choose_device,
    choose_dtype,
    dtype_name,
    free_gpu_bytes,
    hardware_name,
)


def survey_target(path: Path, settings: TargetSettings) -> TargetNeed:
    """What `load_target` would take with these settings.

    Raises:
        ModelError: a file is missing or broken, or the device is not there.
    """
    with model_border(f"cannot load {path} as a target"):
        return _survey(path, settings)


def _survey(path: Path, settings: TargetSettings) -> TargetNeed:
    device = choose_device(settings.device)
    dtype = choose_dtype(settings.dtype, device)
    if settings.threads:
        torch.set_num_threads(settings.threads)  # the hardware's name tells of them
    files = find_model(path)
    with quiet_reading(files):
        config = read_config(files)
        text_config = config.get_text_config()
        check_architecture(text_config)
        plan = outline(config, dtype)
        if files.gguf is None:  # layers of fewer bits take the place of stock ones in the plan
            checkpoint_layers(path, config, plan, settings, device, dtype)
    shape = target_shape(plan, dtype)
    is_on_gpu = device.type == "cuda"
    cache_tokens: int | None = None
    if settings.kv_cache_tokens != "auto":
        cache_tokens = settings.kv_cache_tokens
    elif not is_on_gpu:
        cache_tokens = cache_tokens_of_cpu(settings.context_tokens, settings.max_round_tokens)
    return TargetNeed(
        model_name=files.model_name,
        hardware=hardware_name(device),
        dtype=dtype_name(dtype),
        is_on_gpu=is_on_gpu,
        weight_bytes=weight_bytes(plan, dtype, settings.quantisation),
        cached_token_bytes=shape.cached_token_bytes,
        round_bytes=shape.round_bytes(settings.max_round_tokens),
        cache_tokens=cache_tokens,
        free_bytes=free_gpu_bytes(device) if is_on_gpu else free_main_memory(),
    )
