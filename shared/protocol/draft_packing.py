"""A Draft message and the tokens and rows in it, packed by the board.

Pure. The verifier unpacks it in `verifier.streams.draft_arrival`. This module must never import
numpy, which only a draft model's rows need.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import chain

import msgspec

from shared.protocol.draft_path import DraftToken, Extension
from shared.protocol.messages import Draft, RatedDraft
from shared.protocol.token_ids import pack_rated_ids, pack_token_ids
from shared.speculation.sparse_row import WEIGHT_TOTAL, SparseRow

_Entries = tuple[list[int], list[int]]  # of a row: ids and weights


def make_extension(base: int, position: int, tokens: Sequence[DraftToken]) -> Extension:
    """Tokens that are sent together as the path sees them: the last one ends the chunk."""
    ends = [msgspec.structs.replace(token, ends_chunk=True) for token in tokens[-1:]]
    return Extension(base, position, (*tokens[:-1], *ends))


def pack_draft(
    channel: int, draft: Extension, drafting_seconds: float, *, is_rated: bool = False
) -> Draft:
    """The same as it is sent; rated, it tells how sure the board was of tokens without rows."""
    rows = [entries for token in draft.tokens if (entries := _entries_of(token)) is not None]
    token_ids = [token.token_id for token in draft.tokens]
    milliseconds = round(drafting_seconds * 1e3)
    place = channel, draft.base, draft.position - draft.base
    if rows or not is_rated or not token_ids:
        packed_rows = _pack(rows) if rows else b""
        return Draft(*place, pack_token_ids(token_ids), milliseconds, packed_rows)
    confidences = bytes([token.confidence for token in draft.tokens])
    return RatedDraft(*place, pack_rated_ids(token_ids, confidences), milliseconds)


def pack_rows(rows: Sequence[SparseRow]) -> bytes:
    """Entry counts (uint8 each), then all ids, then all weights (uint16), little-endian."""
    return _pack([(row.token_ids.tolist(), row.weights.tolist()) for row in rows])


def _entries_of(token: DraftToken) -> _Entries | None:
    if token.is_certain:
        return [token.token_id], [WEIGHT_TOTAL]
    return None if token.row is None else (token.row.token_ids.tolist(), token.row.weights.tolist())


def _pack(rows: Sequence[_Entries]) -> bytes:
    counts = bytes([len(token_ids) for token_ids, _ in rows])
    token_ids = list(chain.from_iterable(token_ids for token_ids, _ in rows))
    weights = list(chain.from_iterable(weights for _, weights in rows))
    packed_weights = struct.pack(f"<{len(weights)}H", *weights)
    return bytes([len(rows)]) + counts + pack_token_ids(token_ids) + packed_weights
