"""Programmatic dependent launch: a kernel is set up while the one before it is still running.

From Hopper on.  Every kernel that is launched so waits until the one before is over, before it
writes anything or reads what any kernel of the round has written.  What it may read earlier is what
lay there before the round: weights, and where the round's tokens are.
"""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@functools.cache
def launch_options(device: torch.device) -> dict[str, bool]:
    """Keyword arguments of a launch whose kernel calls `wait_for_former(IS_DEPENDENT)`."""
    if device.type != "cuda":
        return {"IS_DEPENDENT": False}
    is_there = torch.cuda.get_device_capability(device) >= (9, 0)
    return {"IS_DEPENDENT": is_there, "launch_pdl": is_there}


@triton.jit  # type: ignore[misc, untyped-decorator, unused-ignore]
def wait_for_former(IS_DEPENDENT: tl.constexpr):  # type: ignore[no-untyped-def]
    """Let the next kernel be set up, and wait for the former one to end."""
    if IS_DEPENDENT:
        gdc_launch_dependents()
        gdc_wait()
