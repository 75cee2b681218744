"""Which part of this machine each of several local workers has: a GPU, or some of the cores."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from shared.errors import ConfigError

VISIBLE = "CUDA_VISIBLE_DEVICES"
_DEVICE = re.compile(r"^nvidia[0-9]+\Z")


def gpus_of(environment: Mapping[str, str], devices: Path = Path("/dev")) -> list[str]:
    """The GPUs that this process may use, by the names that CUDA knows."""
    visible = environment.get(VISIBLE)
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    found = [entry.name for entry in devices.iterdir() if _DEVICE.match(entry.name)]
    return sorted((name.removeprefix("nvidia") for name in found), key=int)


def environments_of(
    num_workers: int,
    gpus_each: int,
    device: str,
    environment: Mapping[str, str],
    gpus: list[str],
) -> list[dict[str, str]]:
    """The environment of each worker: with GPUs of its own, where the target runs on some.

    Raises:
        ConfigError: there are too few, or one is named for all.
    """
    plain = dict(environment)
    if device == "cpu" or (device == "auto" and not gpus):
        return [plain for _ in range(num_workers)]
    wanted = f"workers.local = {num_workers}"
    if gpus_each > 1:
        wanted += f" with workers.gpus_per_worker = {gpus_each}"
    if device not in ("auto", "cuda") and num_workers * gpus_each > 1:
        sentence = f"{wanted} cannot share target.device = {device}"
        raise ConfigError((f"{sentence}; set target.device = auto",))
    if num_workers * gpus_each > len(gpus):
        found = "1 GPU" if len(gpus) == 1 else f"{len(gpus)} GPUs"
        raise ConfigError((f"{wanted}, and this machine has {found}",))
    if device not in ("auto", "cuda"):
        return [plain]
    shares = [gpus[n * gpus_each : (n + 1) * gpus_each] for n in range(num_workers)]
    return [{**plain, VISIBLE: ",".join(share)} for share in shares]


def threads_of(num_workers: int) -> int:
    """Cores of each worker, where all of them run on the processor."""
    return max(len(os.sched_getaffinity(0)) // num_workers, 1)
