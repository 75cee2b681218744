"""Forward passes of short rounds from CUDA graphs: one launch where eager code needs thousands.

A graph belongs to one shape.  Rounds are padded to the next of a few shapes: padding tokens write
to a slot that nobody reads, and padding work has no rows.  A shape is captured when it is first
met.  This module must never change what a round computes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from verifier.paged_layout import PagedLayout, PagedWork
from verifier.round_inputs import RoundInputs

logger = logging.getLogger(__name__)

# Longer rounds hold prompts; their products take so long that launches hide behind them.
MAX_GRAPH_TOKENS = 512

Forward = Callable[[RoundInputs], Tensor]


class Shape(NamedTuple):
    """What two rounds must share to run from one graph."""

    num_tokens: int
    rows_per_tile: int
    works: tuple[tuple[int | None, int, int], ...]  # window, parts and tiles


@dataclass(frozen=True, slots=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    inputs: RoundInputs  # what the graph reads
    logits: Tensor  # what it writes


class GraphRunner:
    """Runs a forward function from graphs; for one thread on one GPU."""

    def __init__(
        self, forward: Forward, device: torch.device, *, spare_slot: int, max_blocks: int
    ) -> None:
        """Prepare to capture.

        Args:
            forward: logits [num_rows, vocab_size] of inputs on the device; must not synchronise.
            device: a CUDA device.
            spare_slot: a slot of the cache that belongs to no block.
            max_blocks: the longest block table of a stream.
        """
        self._forward = forward
        self._device = device
        self._spare_slot = spare_slot
        self._max_blocks = max_blocks
        self._captured: dict[Shape, _Captured] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def logits(self, inputs: RoundInputs) -> Tensor:
        """Logits [num_rows, vocab_size]; valid until the next call."""
        layout = inputs.layout
        num_tokens = len(inputs.token_ids)
        if not isinstance(layout, PagedLayout) or num_tokens > MAX_GRAPH_TOKENS:
            return self._forward(inputs.to(self._device))
        shape = _shape_of(num_tokens, layout)
        captured = self._captured.get(shape)
        if captured is None:
            captured = self._captured[shape] = self._capture(shape, inputs, layout)
        else:
            self._fill(captured.inputs, inputs, layout)
        captured.graph.replay()
        return captured.logits[: len(inputs.rows)]

    def _capture(self, shape: Shape, inputs: RoundInputs, layout: PagedLayout) -> _Captured:
        static = self._static_inputs(shape, layout)
        self._fill(static, inputs, layout)
        side = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(side):  # whatever is compiled or allocated at a first call
            self._forward(static)
        torch.cuda.current_stream(self._device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            logits = self._forward(static)
        logger.debug("captured a round of %d tokens", shape.num_tokens)
        return _Captured(graph, static, logits)

    def _static_inputs(self, shape: Shape, layout: PagedLayout) -> RoundInputs:
        num_tokens = shape.num_tokens
        zeros = torch.zeros(num_tokens, dtype=torch.int64, device=self._device)
        works = {}
        for window, num_parts, num_tiles in shape.works:
            like = layout.works[window]
            works[window] = PagedWork(
                work=_zero_rows(like.work, num_parts, self._device),
                tiles=_zero_rows(like.tiles, num_tiles, self._device),
                num_partials=num_parts if num_tiles else 0,
            )
        static_layout = replace(
            layout,
            slots=zeros.clone(),
            block_tables=torch.zeros(
                num_tokens, self._max_blocks, dtype=torch.int32, device=self._device
            ),
            works=works,
        )
        return RoundInputs(zeros, zeros.clone(), zeros.clone(), static_layout)

    def _fill(self, static: RoundInputs, inputs: RoundInputs, layout: PagedLayout) -> None:
        assert isinstance(static.layout, PagedLayout)
        _copy_padded(static.token_ids, inputs.token_ids, 0)
        _copy_padded(static.positions, inputs.positions, 0)
        _copy_padded(static.rows, inputs.rows, 0)
        _copy_padded(static.layout.slots, layout.slots, self._spare_slot)
        num_streams, num_blocks = layout.block_tables.shape
        static.layout.block_tables[:num_streams, :num_blocks].copy_(layout.block_tables)
        for window, work in layout.works.items():
            # A part of no rows, written directly: nothing is read and nothing is stored.
            _copy_padded(static.layout.works[window].work, work.work, _IDLE_PART)
            _copy_padded(static.layout.works[window].tiles, work.tiles, 0)


_IDLE_PART = torch.tensor([0, 0, 0, 0, 0, 0, 0, -1], dtype=torch.int32)


def _shape_of(num_tokens: int, layout: PagedLayout) -> Shape:
    works = tuple(
        (window, _bucket(len(work.work)), _bucket(len(work.tiles)))
        for window, work in layout.works.items()
    )
    return Shape(_bucket(num_tokens), layout.rows_per_tile, works)


def _bucket(number: int) -> int:
    """The next of 0, 1, 2, 3, 4, 6, 8, 12, 16, 24, …: at most a half is padding."""
    if number <= 2:
        return number
    power = 1 << (number - 1).bit_length()
    return power * 3 // 4 if number <= power * 3 // 4 else power


def _zero_rows(like: Tensor, num_rows: int, device: torch.device) -> Tensor:
    return torch.zeros(num_rows, like.shape[1], dtype=like.dtype, device=device)


def _copy_padded(static: Tensor, content: Tensor, padding: int | Tensor) -> None:
    """Fill a static tensor on the device from a shorter one on the CPU."""
    whole = torch.empty(static.shape, dtype=static.dtype)
    whole[: len(content)] = content
    whole[len(content) :] = padding
    static.copy_(whole)
