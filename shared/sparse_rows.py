"""The wire form of a draft distribution: at most `k` token ids with integer weights.

A board quantises its probabilities *first* and samples from the rounded weights, so the numbers
that it sends are exactly the distribution that it drew from; the verifier divides by their sum.
Sampling before rounding would bias the text (field.md §4.1 measured 0.009 in total variation).
"""

from __future__ import annotations

from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.errors import RemoteProtocolError
from shared.token_ids import pack_token_ids, unpack_token_ids

MAX_ROW_ENTRIES = 64
# Weights are 16-bit parts of this whole; a probability below half a part is not sent.
WEIGHT_TOTAL = 65_535
# A row entry below this share costs 4 bytes and changes the acceptance rate by less than itself.
SMALLEST_SHARE = 1 / 512


class SparseRow(msgspec.Struct, frozen=True, eq=False):
    """A draft distribution over a few tokens, most likely first."""

    token_ids: NDArray[np.uint32]  # [num_entries] unique
    weights: NDArray[np.uint16]  # [num_entries] positive, not increasing

    @property
    def probs(self) -> NDArray[np.float64]:
        """The distribution that the tokens were drawn from [num_entries]."""
        weights = self.weights.astype(np.float64)
        probs: NDArray[np.float64] = weights / weights.sum()
        return probs

    def prob_of(self, token_id: int) -> float:
        """The draft probability of one token; 0 when the row does not hold it."""
        hits = np.flatnonzero(self.token_ids == token_id)
        return float(self.probs[hits[0]]) if len(hits) else 0.0


def quantise(
    token_ids: NDArray[np.intp], probs: NDArray[np.float64], max_entries: int
) -> SparseRow:
    """The row to sample from: the `max_entries` most likely tokens (given most likely first)."""
    kept = probs[:max_entries]
    kept = kept[kept >= SMALLEST_SHARE * kept[0]]
    weights = np.maximum(np.rint(kept * (WEIGHT_TOTAL / kept.sum())), 1).astype(np.uint16)
    return SparseRow(token_ids=token_ids[: len(kept)].astype(np.uint32), weights=weights)


def pack_rows(rows: tuple[SparseRow, ...]) -> bytes:
    """Entry counts (uint8 each), then all ids, then all weights (uint16), little-endian."""
    counts = bytes([len(row.token_ids) for row in rows])
    ids = np.concatenate([row.token_ids for row in rows]) if rows else np.zeros(0, np.uint32)
    weights = np.concatenate([row.weights for row in rows]) if rows else np.zeros(0, np.uint16)
    return bytes([len(rows)]) + counts + pack_token_ids(ids) + weights.astype("<u2").tobytes()


def unpack_rows(packed: bytes, vocab_size: int) -> tuple[SparseRow, ...]:
    """The rows in a message.

    Raises:
        RemoteProtocolError: a length, an id or a weight is not allowed; the sentence names it.
    """
    if not packed:
        return ()
    num_rows = packed[0]
    counts = np.frombuffer(packed[1 : 1 + num_rows], dtype=np.uint8)
    if len(counts) != num_rows:
        raise RemoteProtocolError(
            f"sparse rows of {len(packed)} bytes are too short for {num_rows} rows"
        )
    for count in counts.tolist():
        if not 0 < count <= MAX_ROW_ENTRIES:
            raise RemoteProtocolError(
                f"sparse row of {count} entries is outside 1 to {MAX_ROW_ENTRIES}"
            )
    total = int(counts.sum())
    weights_start = len(packed) - 2 * total
    if weights_start < 1 + num_rows:
        raise RemoteProtocolError(
            f"sparse rows of {len(packed)} bytes are too short for {total} entries"
        )
    token_ids = unpack_token_ids(packed[1 + num_rows : weights_start], vocab_size)
    if len(token_ids) != total:
        raise RemoteProtocolError(
            f"sparse rows hold {len(token_ids)} token ids for {total} entries"
        )
    weights = np.frombuffer(packed[weights_start:], dtype="<u2")
    ends = np.cumsum(counts, dtype=np.intp)
    return tuple(
        _checked(
            SparseRow(token_ids=token_ids[end - count : end], weights=weights[end - count : end])
        )
        for count, end in zip(counts.tolist(), ends.tolist(), strict=True)
    )


def _checked(row: SparseRow) -> SparseRow:
    # A few dozen entries: plain Python is several times faster than numpy here.
    if len(set(row.token_ids.tolist())) != len(row.token_ids):
        raise RemoteProtocolError("a sparse row names a token id twice")
    weights = row.weights.tolist()
    if weights[-1] == 0 or any(left < right for left, right in pairwise(weights)):
        raise RemoteProtocolError("sparse row weights must be positive and not increase")
    return row
