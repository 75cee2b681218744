"""How a kernel is made, launched and timed, also while the one before it is still running.

Programmatic dependent launch, from Hopper on: a kernel is set up early, and waits until the one
before is over, before it writes anything or reads what any kernel of the round has written. What
it may read earlier is what lay there before the round: weights, and where the round's tokens are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


class Kernel(Protocol):
    """A function that Triton compiles: `kernel[grid](...)` on the host, a call in other kernels.

    Parameters are annotated as what they are inside: a `tl.constexpr`, or a `tl.tensor`, be it a
    pointer, a number or a block of them. No name of a module may stand there: Triton reads
    annotations as code.
    """

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., object]: ...

    def __call__(self, *arguments: Any) -> Any: ...


kernel: Callable[[Callable[..., object]], Kernel] = triton.jit  # of a library without annotations


def kernel_for_any(*names: str) -> Callable[[Callable[..., object]], Kernel]:
    """As `kernel`, where these parameters differ from round to round.

    Of others Triton compiles a second kernel once a number is 1 or a multiple of 16, or a pointer
    starts elsewhere: in the midst of service, which stops all streams for 0.6 to 0.9 s.
    """
    decorate: Callable[[Callable[..., object]], Kernel] = triton.jit(
        do_not_specialize=names, do_not_specialize_on_alignment=names
    )
    return decorate


@functools.cache
def launch_options(device: torch.device) -> dict[str, bool]:
    """Keyword arguments of a launch whose kernel calls `wait_for_former(IS_DEPENDENT)`."""
    if device.type != "cuda":  # Triton's interpreter
        return {"IS_DEPENDENT": False}
    is_there = torch.cuda.get_device_capability(device) >= (9, 0)
    return {"IS_DEPENDENT": is_there, "launch_pdl": is_there}


def timing_event() -> torch.cuda.Event:
    """An event that the current stream may record, to be compared with another one's time."""
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


@kernel
def wait_for_former(IS_DEPENDENT: tl.constexpr) -> None:
    """Let the next kernel be set up, and wait for the former one to end."""
    let_next_begin(IS_DEPENDENT)
    only_wait_for_former(IS_DEPENDENT)


@kernel
def only_wait_for_former(IS_DEPENDENT: tl.constexpr) -> None:
    """For a long kernel, whose cores a next one would share while it waits; it calls the other."""
    if IS_DEPENDENT:
        gdc_wait()


@kernel
def let_next_begin(IS_DEPENDENT: tl.constexpr) -> None:
    """Let the next kernel be set up."""
    if IS_DEPENDENT:
        gdc_launch_dependents()
