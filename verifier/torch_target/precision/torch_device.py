"""Where a target runs and in which numbers, and what that device has."""

from __future__ import annotations

import torch

from verifier.torch_target.precision.gpu_limits import check_gpu, gpu_dtype


def choose_device(name: str) -> torch.device:
    """The device of target.device; auto takes the first GPU if there is one.

    Raises:
        ModelError: it is not there.
    """
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if num_gpus else "cpu")
    if name.startswith("cuda"):
        check_gpu(name, num_gpus)
    return torch.device(name)


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of target.dtype; auto is float32 on a CPU, where it is exact, else 16-bit.

    Raises:
        ModelError: the device cannot compute in it.
    """
    if device.type == "cuda":
        name = gpu_dtype(name, torch.cuda.get_device_capability(device))
    elif name == "auto":
        name = "float32"
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def dtype_name(dtype: torch.dtype) -> str:
    """Without torch's own name before it."""
    return str(dtype).removeprefix("torch.")


def hardware_name(device: torch.device) -> str:
    """What measured times belong to: the GPU's name, or the threads that a CPU lends us."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"CPU, {torch.get_num_threads()} threads"


def free_gpu_bytes(device: torch.device) -> int:
    """Memory of a GPU that no program holds; what torch keeps for later counts as free."""
    torch.cuda.empty_cache()
    return int(torch.cuda.mem_get_info(device)[0])
