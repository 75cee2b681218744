"""The inputs of one CUDA graph: fixed places on the GPU that every round of its shape fills anew.

All integers of a round travel in one copy from pinned memory. Places that a shorter round leaves
over are filled with work that does nothing. This module must never run a model.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from verifier.target.padded_rounds import padded_tokens
from verifier.torch_target.forward.round_inputs import RoundInputs
from verifier.torch_target.kernels.paged_layout import (
    TILE_COLUMNS,
    WORK_COLUMNS,
    PagedLayout,
    PagedWork,
)

_Sizes = dict[str, tuple[torch.dtype, tuple[int, ...]]]  # of tensors by name

# What a round of another shape may add to its tokens: less than a capture takes, which would come
# when streams wait for it.
_MOST_PADDING = 1.5
# A part of no rows, written directly: nothing is read and nothing is stored.
_IDLE_PART = np.array([-1 if name == "part" else 0 for name in WORK_COLUMNS], dtype=np.int32)


class RoundShape(NamedTuple):
    """What two rounds must share to have the same inputs in shape."""

    num_tokens: int
    rows_per_tile: int
    works: tuple[tuple[int | None, int, int], ...]  # window, parts and tiles

    @classmethod
    def of(cls, inputs: RoundInputs, layout: PagedLayout) -> RoundShape:
        """The next of a few shapes that holds the round."""
        num_tokens = padded_tokens(len(inputs.token_ids))
        works = tuple(
            (window, _parts_bucket(work, num_tokens), _work_bucket(len(work.tiles)))
            for window, work in layout.works.items()
        )
        return cls(num_tokens, layout.rows_per_tile, works)

    def can_run(self, other: RoundShape) -> bool:
        """Whether a round of the other shape may run as one of this, with a little more padding."""
        return (
            other.num_tokens <= self.num_tokens <= _MOST_PADDING * other.num_tokens
            and self.rows_per_tile == other.rows_per_tile
            and all(
                other_parts <= num_parts <= 2 * max(other_parts, 64)
                and other_tiles <= num_tiles <= 2 * max(other_tiles, 4)
                for (_, num_parts, num_tiles), (_, other_parts, other_tiles) in zip(
                    self.works, other.works, strict=True
                )
            )
        )


class StaticInputs:
    """Pinned and device memory of one shape."""

    def __init__(
        self,
        shape: RoundShape,
        like: PagedLayout,
        device: torch.device,
        *,
        max_blocks: int,
        spare_slot: int,
    ) -> None:
        """Allocate for rounds of `shape` laid out like `like`; `max_blocks` in any block table."""
        vector = (torch.int64, (shape.num_tokens,))
        vectors = ("token_ids", "positions", "rows", "slots")
        sizes: _Sizes = dict.fromkeys(vectors, vector)
        for window, num_parts, num_tiles in shape.works:
            sizes[f"work {window}"] = (torch.int32, (num_parts, len(WORK_COLUMNS)))
            sizes[f"tiles {window}"] = (torch.int32, (num_tiles, len(TILE_COLUMNS)))
        sizes["block_tables"] = (torch.int32, (shape.num_tokens, max_blocks))  # last: see `fill`
        num_bytes = sum(dtype.itemsize * math.prod(size) for dtype, size in sizes.values())
        self._spare_slot = spare_slot
        self._host_bytes = torch.zeros(num_bytes, dtype=torch.uint8, pin_memory=True)
        self._device_bytes = torch.zeros(num_bytes, dtype=torch.uint8, device=device)
        # Numpy fills a few hundred places in a fraction of the time that torch takes.
        self._host = {k: view.numpy() for k, view in _views(self._host_bytes, sizes).items()}
        on_device = _views(self._device_bytes, sizes)
        works = {
            window: PagedWork(
                work=on_device[f"work {window}"],
                tiles=on_device[f"tiles {window}"],
                num_partials=num_parts if num_tiles else 0,
            )
            for window, num_parts, num_tiles in shape.works
        }
        # Both are on the device.
        self.inputs = RoundInputs(on_device["token_ids"], on_device["positions"], on_device["rows"])
        self.layout = replace(
            like, slots=on_device["slots"], block_tables=on_device["block_tables"], works=works
        )

    def clear(self) -> None:
        """Put a round of nothing there, which may be run at any time."""
        for name, values in self._host.items():
            values[:] = _IDLE_PART if name.startswith("work") else 0
        self._host["slots"][:] = self._spare_slot
        self._device_bytes.copy_(self._host_bytes, non_blocking=True)

    def fill(self, inputs: RoundInputs, layout: PagedLayout) -> None:
        """Put a round there; the one before must be over."""
        host = self._host
        _put(host["token_ids"], inputs.token_ids, 0)
        _put(host["positions"], inputs.positions, 0)
        _put(host["rows"], inputs.rows, 0)
        _put(host["slots"], layout.slots, self._spare_slot)
        num_streams, num_blocks = layout.block_tables.shape
        host["block_tables"][:num_streams, :num_blocks] = layout.block_tables.numpy()
        for window, work in layout.works.items():
            _put(host[f"work {window}"], work.work, _IDLE_PART)
            _put(host[f"tiles {window}"], work.tiles, 0)
        # A round of n tokens has few streams: the tables of the others need not travel.
        num_unused = host["block_tables"][num_streams:].nbytes
        num_bytes = len(self._host_bytes) - num_unused
        self._device_bytes[:num_bytes].copy_(self._host_bytes[:num_bytes], non_blocking=True)


def _views(content: Tensor, sizes: _Sizes) -> dict[str, Tensor]:
    """Parts of a byte tensor, one after the other; longer types first keeps them aligned."""
    views, start = {}, 0
    for name, (dtype, size) in sizes.items():
        end = start + dtype.itemsize * math.prod(size)
        views[name] = content[start:end].view(dtype).view(size)
        start = end
    return views


def _put(values: NDArray[Any], content: Tensor, padding: int | NDArray[np.int32]) -> None:
    values[: len(content)] = content.numpy()
    values[len(content) :] = padding


def _parts_bucket(work: PagedWork, num_tokens: int) -> int:
    """Of few choices: idle parts cost next to nothing, another graph a tenth of a second."""
    num_parts = len(work.work)
    if work.num_partials:
        return max(64, _work_bucket(num_parts))
    return num_tokens // 4 if num_parts <= num_tokens // 4 else max(num_tokens, num_parts)


def _work_bucket(number: int) -> int:
    """The next of 0 and the powers of two."""
    return number if number <= 2 else 1 << (number - 1).bit_length()
