"""Lays the tokens of several slots out in the flat arrays of a llama.cpp batch.

It knows nothing of llama.cpp but this layout, and never imports it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from edge_agent.draft_model.drafter import Forward


class Piece(msgspec.Struct, frozen=True):
    """Tokens [start, stop) of item number `index` of a batch."""

    index: int
    start: int
    stop: int


def split_batch(batch: Sequence[Forward], limit: int) -> Iterator[list[Piece]]:
    """Cut a batch, in order, into lists of pieces that hold at most `limit` tokens each."""
    pieces: list[Piece] = []
    room = limit
    for index, item in enumerate(batch):
        start = 0
        while start < len(item.token_ids):
            stop = min(len(item.token_ids), start + room)
            pieces.append(Piece(index, start, stop))
            room -= stop - start
            start = stop
            if room == 0:
                yield pieces
                pieces, room = [], limit
    if pieces:
        yield pieces


class BatchArrays:
    """The arrays behind a llama.cpp batch of up to `limit` tokens: numpy writes, C reads."""

    def __init__(self, limit: int) -> None:
        self.token_ids = np.zeros(limit, np.int32)
        self.positions = np.zeros(limit, np.int32)
        self.num_slots = np.ones(limit, np.int32)  # every token belongs to one slot
        self.slots = np.zeros(limit, np.int32)
        self.slot_pointers = self.slots.ctypes.data + self.slots.itemsize * np.arange(limit)
        self.wants_logits = np.zeros(limit, np.int8)
        self.num_tokens = 0

    def fill(
        self, batch: Sequence[Forward], pieces: Sequence[Piece], held_tokens: Sequence[int]
    ) -> list[tuple[int, int]]:
        """Write the pieces and return (row, item index) of each row whose logits are wanted.

        `held_tokens[slot]` is what the slot held before the whole batch.
        """
        rows = []
        end = 0
        for piece in pieces:
            item = batch[piece.index]
            begin, end = end, end + piece.stop - piece.start
            first_position = held_tokens[item.slot] + piece.start
            self.token_ids[begin:end] = item.token_ids[piece.start : piece.stop]
            self.positions[begin:end] = np.arange(first_position, first_position + end - begin)
            self.slots[begin:end] = item.slot
            self.wants_logits[begin:end] = 0
            if item.wants_logits and piece.stop == len(item.token_ids):
                self.wants_logits[end - 1] = 1
                rows.append((end - 1, piece.index))
        self.num_tokens = end
        return rows
