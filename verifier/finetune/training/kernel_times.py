"""Where a GPU's time goes while a draft learns: kernels by what they do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import torch

logger = logging.getLogger(__name__)

# Parts of names, in the order in which they are looked for.
_KINDS = (
    ("attention", ("flash", "fmha", "attention", "sdpa")),
    ("products", ("gemm", "cutlass", "nvjet", "xmma", "splitk", "gemv")),
    ("losses", ("_distances", "_gradient")),
    ("optimiser", ("adam", "multi_tensor")),
)
_OTHERS = "norms, rotations, rounding and casts"


def kernel_shares(run: Callable[[], None]) -> dict[str, float]:
    """Shares of the kernels' time of a run, the largest first; empty where none can be seen."""
    activities = [torch.profiler.ProfilerActivity.CUDA]
    try:
        with torch.profiler.profile(activities=activities) as profile:
            run()
            torch.cuda.synchronize()
        found = [
            (event.key, float(event.self_device_time_total)) for event in profile.key_averages()
        ]
    except RuntimeError as error:  # a driver may forbid to look, and nothing depends on it
        logger.debug("no kernel can be seen: %s", error)
        return {}
    return shares_of(found)


def shares_of(times: Iterable[tuple[str, float]]) -> dict[str, float]:
    """By kind, of the times of kernels with these names."""
    sums: dict[str, float] = {}
    for name, time in times:
        kind = kind_of(name)
        sums[kind] = sums.get(kind, 0.0) + time
    total = sum(sums.values())
    if not total:
        return {}
    return {kind: time / total for kind, time in sorted(sums.items(), key=lambda x: -x[1])}


def kind_of(name: str) -> str:
    """What a kernel of this name does."""
    lower = name.lower()
    for kind, parts in _KINDS:
        if any(part in lower for part in parts):
            return kind
    return _OTHERS
