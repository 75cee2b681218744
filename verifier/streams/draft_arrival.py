"""A Draft as it comes in: what is cheap to see is checked first, rows are unpacked last.

Rows are dear, and most of what a board may send in vain falls at the cheap checks. The form of a
draft is checked here, its place by the path. This module must never let an id, a row or a count
through that the target cannot use, and never keep anything.
"""

from __future__ import annotations

from itertools import pairwise, repeat

import numpy as np

from shared.errors import RemoteProtocolError
from shared.protocol.draft_path import DraftToken, Extension
from shared.protocol.messages import AcceptanceMode, Draft, RatedDraft
from shared.protocol.token_ids import (
    count_rated_ids,
    count_token_ids,
    unpack_rated_ids,
    unpack_token_ids,
    unpack_token_list,
)
from shared.protocol.transport import MAX_ROW_ENTRIES
from shared.speculation.confidence import confidence_of_row
from shared.speculation.sparse_row import SparseRow
from verifier.streams.stream import Stream

# That are unpacked sooner than their place is looked at twice; the path does so anyway.
_FEW_TOKENS = 16


def take_draft(stream: Stream, message: Draft, vocab_size: int, now: float) -> None:
    """Hand a draft to its stream; nothing is unpacked of one whose path is dead.

    Raises:
        RemoteProtocolError: it does not fit the mode or the path, or it is malformed.
    """
    num_tokens = num_draft_tokens(message)
    _check_form(stream.request.mode, num_tokens, num_packed_rows(message.rows))
    path, drafting_seconds = stream.path, message.drafting_milliseconds / 1e3
    if message.base < path.base:
        stream.drop_draft(num_tokens, drafting_seconds)
        return
    if message.rows or num_tokens > _FEW_TOKENS:
        path.check_place(message.base, message.position, num_tokens, stream.granted_end)
    num_known = max(path.end - message.position, 0)
    stream.receive_draft(unpack_draft(message, vocab_size, num_known), drafting_seconds, now)


def _check_form(mode: AcceptanceMode, num_tokens: int, num_rows: int) -> None:
    if mode == "coupled" and num_rows:
        raise RemoteProtocolError(f"a coupled draft came with {num_rows} rows")
    if mode == "rejection" and num_rows < num_tokens - 1:
        raise RemoteProtocolError(
            f"a rejection draft of {num_tokens} tokens came with {num_rows} rows"
        )


def num_draft_tokens(message: Draft) -> int:
    """How many tokens a draft brings, if they are well formed."""
    if isinstance(message, RatedDraft):
        return count_rated_ids(message.tokens)
    return count_token_ids(message.tokens)


def unpack_draft(message: Draft, vocab_size: int, num_known: int = 0) -> Extension:
    """The draft's tokens, each with its row or its confidence; the last one ends the chunk.

    The confidence of a token with a row is the row's own, which no board can tell otherwise.
    The receiver has `num_known` of the first tokens already: their rows are left out.

    Raises:
        RemoteProtocolError: ids or rows are malformed, or do not belong together.
    """
    if isinstance(message, RatedDraft):
        return _unpack_rated(message, vocab_size)
    token_ids = unpack_token_list(message.tokens, vocab_size)
    if not message.rows:
        return _chunk(message, [DraftToken(token_id) for token_id in token_ids])
    num_rows = num_packed_rows(message.rows)
    num_bare = len(token_ids) - num_rows  # all of them, or the guess that comes first
    if num_bare < 0 or (num_rows and num_bare > 1):
        raise RemoteProtocolError(f"{num_rows} rows came for {len(token_ids)} draft tokens")
    first = max(num_known, num_bare)
    rows = unpack_rows(message.rows, vocab_size, first - num_bare)
    for i, row in enumerate(rows, start=first):
        if token_ids[i] not in row.token_ids:  # no board draws a token of probability 0
            raise RemoteProtocolError(f"the row of draft token {i} does not hold that token")
    tokens = [DraftToken(token_id) for token_id in token_ids[:first]]
    tokens += [
        DraftToken(token_id, row, confidence=confidence_of_row(row))
        for token_id, row in zip(token_ids[first:], rows, strict=False)
    ]
    return _chunk(message, tokens)


def _unpack_rated(message: RatedDraft, vocab_size: int) -> Extension:
    if message.rows:
        raise RemoteProtocolError("rows came for draft tokens that are rated")
    token_ids, ratings = unpack_rated_ids(message.tokens, vocab_size)
    ends = [*repeat(False, len(token_ids) - 1), True]
    tokens = tuple(map(DraftToken, token_ids, repeat(None), ends, ratings))
    return Extension(message.base, message.position, tokens)


def _chunk(message: Draft, tokens: list[DraftToken]) -> Extension:
    if tokens:
        last = tokens[-1]
        tokens[-1] = DraftToken(last.token_id, last.row, True, last.confidence)
    return Extension(message.base, message.position, tuple(tokens))


def num_packed_rows(packed: bytes) -> int:
    """How many rows are packed, if they are well formed."""
    return packed[0] if packed else 0


def unpack_rows(packed: bytes, vocab_size: int, first: int = 0) -> tuple[SparseRow, ...]:
    """The rows in a message, from the one with index `first` on.

    Raises:
        RemoteProtocolError: a length, an id or a weight is not allowed; the sentence names it.
    """
    if not packed:
        return ()
    num_rows = num_packed_rows(packed)
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
    unpacked = unpack_token_ids(packed[1 + num_rows : weights_start], vocab_size)
    token_ids = np.frombuffer(unpacked, dtype=np.uint32)
    if len(token_ids) != total:
        raise RemoteProtocolError(
            f"sparse rows hold {len(token_ids)} token ids for {total} entries"
        )
    weights = np.frombuffer(packed[weights_start:], dtype="<u2")
    ends = np.cumsum(counts, dtype=np.intp)
    return tuple(
        _check_row(
            SparseRow(token_ids=token_ids[end - count : end], weights=weights[end - count : end])
        )
        for count, end in zip(counts[first:].tolist(), ends[first:].tolist(), strict=True)
    )


def _check_row(row: SparseRow) -> SparseRow:
    # A few dozen entries: plain Python is several times faster than numpy here.
    if len(set(row.token_ids.tolist())) != len(row.token_ids):
        raise RemoteProtocolError("a sparse row names a token id twice")
    weights = row.weights.tolist()
    if weights[-1] == 0 or any(weight < following for weight, following in pairwise(weights)):
        raise RemoteProtocolError("sparse row weights must be positive and not increase")
    return row
