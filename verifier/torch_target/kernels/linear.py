"""A matrix product on a GPU whose rows do not depend on how many other rows there are.

cuBLAS sums in another order for other numbers of rows, so a text can change with the batch. Here
the work of all output tiles, cut along the inputs into equal steps, is dealt out evenly
("stream-K"): a program takes the same steps in a row whatever the rows are, and a tile that several
programs share is summed by whichever of them is last, always in the same order. For few rows it
is nearly as fast as the weights can be read.

Source: Osama et al. 2023, "Stream-K: Work-centric parallel decomposition for dense matrix-matrix
multiplication on the GPU".
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from verifier.torch_target.kernels.launch import (
    kernel,
    kernel_for_any,
    launch_options,
    wait_for_former,
)

# What decides the order of sums, the same for every number of rows.
_TILE = 64  # outputs
_STEP_BYTES = 256  # of inputs
_PROGRAMS_PER_CORE = 2

# Rows of one program, steps on their way, and warps: as shared memory allows.
_ROWS_OPTIONS = {16: (4, 4), 32: (4, 4), 64: (3, 4), 128: (2, 4)}
# Rows of one launch, which bound what programs leave for each other.
_MAX_ROWS = 512


class _Workspace(NamedTuple):
    """What the programs of one product leave for each other; all products of a GPU share it."""

    partials: Tensor  # float32
    counters: Tensor  # [most tiles] int32, zero between products


def invariant_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """X [..., num_inputs] @ weight [num_outputs, num_inputs].T + bias [num_outputs].

    All of one type, weight contiguous, on one GPU.
    """
    rows = x.reshape(-1, x.shape[-1]).contiguous()
    output = rows.new_empty(len(rows), weight.shape[0])
    for start in range(0, len(rows), _MAX_ROWS):
        _launch(rows[start : start + _MAX_ROWS], weight, bias, output[start : start + _MAX_ROWS])
    return output.view(*x.shape[:-1], -1)


def _launch(rows: Tensor, weight: Tensor, bias: Tensor | None, output: Tensor) -> None:
    num_outputs, num_inputs = weight.shape
    step = _STEP_BYTES // weight.element_size()
    block = max(16, min(128, triton.next_power_of_2(len(rows))))
    stages, warps = _ROWS_OPTIONS[block]
    num_steps = triton.cdiv(num_outputs, _TILE) * triton.cdiv(num_inputs, step)
    num_programs = min(_num_cores(rows.device) * _PROGRAMS_PER_CORE, num_steps)
    workspace = _workspace(rows.device)
    _linear[(num_programs, triton.cdiv(len(rows), block))](
        rows,
        weight,
        weight if bias is None else bias,
        output,
        workspace.partials,
        workspace.counters,
        len(rows),
        num_outputs,
        num_inputs,
        HAS_BIAS=bias is not None,
        EVEN=num_inputs % step == 0,
        ROWS=block,
        TILE=_TILE,
        STEP=step,
        STAGES=stages,
        PRECISION="ieee" if rows.dtype is torch.float32 else "tf32",
        num_warps=warps,
        **launch_options(rows.device),
    )


@functools.cache
def _num_cores(device: torch.device) -> int:
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


@functools.cache
def _workspace(device: torch.device) -> _Workspace:
    num_parts = 2 * _PROGRAMS_PER_CORE * _num_cores(device)
    partials = torch.empty(num_parts * _TILE * _MAX_ROWS, dtype=torch.float32, device=device)
    return _Workspace(partials, torch.zeros(1 << 16, dtype=torch.int32, device=device))


@kernel_for_any("num_rows")
def _linear(
    x: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    output: tl.tensor,
    partials: tl.tensor,
    counters: tl.tensor,
    num_rows: tl.tensor,
    num_outputs: tl.tensor,
    num_inputs: tl.tensor,
    HAS_BIAS: tl.constexpr,
    EVEN: tl.constexpr,
    ROWS: tl.constexpr,
    TILE: tl.constexpr,
    STEP: tl.constexpr,
    STAGES: tl.constexpr,
    PRECISION: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> None:
    """One program's share of the steps, for ROWS rows."""
    wait_for_former(IS_DEPENDENT)
    program, num_programs = tl.program_id(0), tl.num_programs(0)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    tile_steps = tl.cdiv(num_inputs, STEP)
    num_steps = tl.cdiv(num_outputs, TILE) * tile_steps
    step = _first_step(program, num_steps, num_programs)
    end = _first_step(program + 1, num_steps, num_programs)
    inner = tl.arange(0, STEP)
    while step < end:
        tile = step // tile_steps
        first = step - tile * tile_steps
        last = tl.minimum(first + end - step, tile_steps)
        feature = tile * TILE + tl.arange(0, TILE)
        safe = tl.minimum(feature, num_outputs - 1).to(tl.int64)
        weight_pointers = weight + safe[:, None] * num_inputs + inner[None, :]
        x_pointers = x + tl.minimum(row, num_rows - 1)[:, None] * num_inputs + inner[None, :]
        sums = _sums(
            x_pointers,
            weight_pointers,
            inner,
            first,
            last,
            num_inputs,
            EVEN,
            STEP,
            STAGES,
            PRECISION,
        )
        step += last - first
        sums, is_mine = _shared_sums(
            sums, partials, counters, tile, tile_steps, num_steps, TILE, ROWS
        )
        if is_mine:
            if HAS_BIAS:
                sums += tl.load(bias + safe).to(tl.float32)[:, None]
            result = tl.trans(sums.to(output.dtype.element_ty))
            pointers = output + row[:, None].to(tl.int64) * num_outputs + feature[None, :]
            tl.store(
                pointers, result, mask=(row < num_rows)[:, None] & (feature < num_outputs)[None, :]
            )


@kernel
def _sums(
    x_pointers: tl.tensor,
    weight_pointers: tl.tensor,
    inner: tl.tensor,
    first: tl.tensor,
    last: tl.tensor,
    num_inputs: tl.tensor,
    EVEN: tl.constexpr,
    STEP: tl.constexpr,
    STAGES: tl.constexpr,
    PRECISION: tl.constexpr,
) -> tl.tensor:
    """The products of a tile's weights and the rows over the steps from `first` to `last`."""
    sums = tl.zeros([weight_pointers.shape[0], x_pointers.shape[0]], tl.float32)
    for step in tl.range(first, last, num_stages=STAGES):
        start = step * STEP
        if EVEN:
            w, values = tl.load(weight_pointers + start), tl.load(x_pointers + start)
        else:
            is_input = (start + inner < num_inputs)[None, :]
            w = tl.load(weight_pointers + start, mask=is_input, other=0.0)
            values = tl.load(x_pointers + start, mask=is_input, other=0.0)
        sums = tl.dot(w, tl.trans(values), sums, input_precision=PRECISION)
    return sums


@kernel
def _shared_sums(
    sums: tl.tensor,
    partials: tl.tensor,
    counters: tl.tensor,
    tile: tl.tensor,
    tile_steps: tl.tensor,
    num_steps: tl.tensor,
    TILE: tl.constexpr,
    ROWS: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """A tile's sums over all programs that share it, and whether this program has to store them."""
    program, num_programs = tl.program_id(0), tl.num_programs(0)
    earliest = _program_of(tile * tile_steps, num_steps, num_programs)
    latest = _program_of((tile + 1) * tile_steps - 1, num_steps, num_programs)
    is_mine = earliest == latest
    if not is_mine:
        offsets = tl.arange(0, TILE)[:, None] * ROWS + tl.arange(0, ROWS)[None, :]
        # A program begins at most one tile that others end, and ends one that others began.
        group = tl.program_id(1) * num_programs
        slot = 2 * (group + program) + (program == earliest).to(tl.int32)
        tl.store(partials + slot.to(tl.int64) * (TILE * ROWS) + offsets, sums)
        tl.debug_barrier()  # all of it is stored before the program counts as arrived
        counter = counters + tl.program_id(1) * (num_steps // tile_steps) + tile
        is_mine = tl.atomic_add(counter, 1, sem="acq_rel") == latest - earliest
        if is_mine:
            sums = tl.zeros([TILE, ROWS], tl.float32)
            for other in range(earliest, latest + 1):
                slot = 2 * (group + other) + (other == earliest).to(tl.int32)
                part = partials + slot.to(tl.int64) * (TILE * ROWS) + offsets
                sums += tl.load(part, cache_modifier=".cg")
            tl.store(counter, 0)
    return sums, is_mine


@kernel
def _first_step(program: tl.tensor, num_steps: tl.tensor, num_programs: tl.tensor) -> tl.tensor:
    """Where a program's share begins; shares are equal to one step."""
    return (program.to(tl.int64) * num_steps // num_programs).to(tl.int32)


@kernel
def _program_of(step: tl.tensor, num_steps: tl.tensor, num_programs: tl.tensor) -> tl.tensor:
    """The program whose share holds a step."""
    return (((step.to(tl.int64) + 1) * num_programs - 1) // num_steps).to(tl.int32)
