"""What torch's exceptions mean for a round: out of memory, the device lost, or anything else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from verifier.target.target import DeviceLost, OutOfMemory

_CPU_ALLOCATOR = "DefaultCPUAllocator"  # only its name marks the errors of a CPU's memory


@contextmanager
def named_failures() -> Iterator[None]:
    """Raise torch's exceptions as those that `TargetModel.run` names, where they have a name."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(str(error)) from error
    except torch.AcceleratorError as error:
        if _is_device_lost():
            raise DeviceLost(str(error)) from error
        raise
    except RuntimeError as error:
        if _CPU_ALLOCATOR in str(error):
            raise OutOfMemory(str(error)) from error
        raise


def _is_device_lost() -> bool:
    """Whether the error stays: then every further call repeats it."""
    try:
        torch.cuda.synchronize()
    except torch.AcceleratorError:
        return True
    return False
