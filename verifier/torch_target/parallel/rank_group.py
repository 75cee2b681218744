"""What the ranks of one target say to each other: sums, parts side by side, numbers in common.

By NCCL on GPUs, by gloo on a CPU, over loopback alone. Every call is collective: all ranks make the
same ones in the same order, so what decides about a call must hang on the round alone.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from shared.errors import ModelError
from verifier.target.rank_place import RankPlace
from verifier.target.target_settings import TargetSettings
from verifier.torch_target.parallel.shared_sums import SharedSums, make_shared_sums

# One rank may have read its weights long before another; what hangs in a round, processes watch.
_WAIT = timedelta(minutes=30)


class RankGroup:
    """One rank's end; for one thread."""

    def __init__(self, place: RankPlace, device: torch.device) -> None:
        """Meet the other ranks.

        Raises:
            ModelError: this build of torch cannot.
        """
        self.rank, self.num_ranks = place.rank, place.num_ranks
        self._device = device
        backend = _backend(device)
        # torch 2.13 has another name for it and warns of the old one.
        single = getattr(dist, "all_gather_single", None)
        self._gather_into: Any = single or dist.all_gather_into_tensor
        for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(name, "lo")
        store: Any = dist.TCPStore(  # type: ignore[attr-defined]
            "127.0.0.1",
            place.port,
            place.num_ranks,
            is_master=place.rank == 0,
            timeout=_WAIT,
            wait_for_workers=False,
            master_listen_fd=place.listening,
        )
        on_gpu: dict[str, Any] = {}
        if device.type == "cuda":
            torch.cuda.set_device(device)
            on_gpu["device_id"] = device
        dist.init_process_group(
            backend,
            store=store,
            rank=place.rank,
            world_size=place.num_ranks,
            timeout=_WAIT,
            **on_gpu,
        )
        self._shared_sums: SharedSums | None = None
        if device.type == "cuda":
            found = make_shared_sums(device, place.rank, place.num_ranks)
            self._shared_sums = found if self.least(found is not None) else None

    def add_up(self, values: Tensor) -> None:
        """Put the sum over all ranks into each one's values."""
        if self._shared_sums is not None and self._shared_sums.can_add(values):
            self._shared_sums.add_up(values)
        else:
            dist.all_reduce(values)

    def gather(self, part: Tensor) -> Tensor:
        """The parts of all ranks, [num_ranks, *part.shape]; each rank's is of the same shape."""
        gathered = part.new_empty(self.num_ranks * part.numel())
        self._gather_into(gathered, part.flatten())
        return gathered.view(self.num_ranks, *part.shape)

    def least(self, number: int) -> int:
        """The least of the ranks' numbers."""
        return int(self._agreed(number, torch.int64, dist.ReduceOp.MIN))

    def most_seconds(self, seconds: float) -> float:
        """The most of the ranks' seconds."""
        return float(self._agreed(seconds, torch.float64, dist.ReduceOp.MAX))

    def _agreed(self, number: float, dtype: torch.dtype, operation: Any) -> float:
        agreed = torch.tensor([number], dtype=dtype, device=self._device)
        dist.all_reduce(agreed, operation)
        return agreed.item()


def device_of_rank(
    place: RankPlace, device: torch.device, settings: TargetSettings
) -> torch.device:
    """The GPU of a rank, where a target without ranks would be on `device`.

    Raises:
        ModelError: there are too few, one is named for all, or sums would depend on the batch.
    """
    if settings.batch_invariant and place.num_ranks > 2:  # the sum of two has but one order
        raise ModelError(
            "target.batch_invariant is not possible with workers.gpus_per_worker = "
            f"{place.num_ranks}: sums of more than 2 GPUs depend on the round; set 2"
        )
    if device.type != "cuda":
        return device
    if str(device) != "cuda":
        raise ModelError(
            f"target.device = {device} is one GPU, and workers.gpus_per_worker = "
            f"{place.num_ranks}; set target.device = auto"
        )
    num_gpus = torch.cuda.device_count()
    if place.num_ranks > num_gpus:
        raise ModelError(
            f"workers.gpus_per_worker = {place.num_ranks}, and the worker sees "
            + ("1 GPU" if num_gpus == 1 else f"{num_gpus} GPUs")
        )
    return torch.device("cuda", place.rank)


def _backend(device: torch.device) -> str:
    name = "nccl" if device.type == "cuda" else "gloo"
    is_there = dist.is_available() and getattr(dist, f"is_{name}_available")()
    if not is_there:
        raise ModelError(
            f"this build of torch has no {name}, by which a target is split over several "
            f"{device.type.upper()}s; set workers.gpus_per_worker = 1"
        )
    return name
