"""Draft checks on the way to a worker, with all that their rows of logits are processed by.

Pure. Masks of grammars are not among it: they are made while the round is on its way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice

import numpy as np

from shared.errors import RemoteProtocolError
from shared.speculation.logit_processors import LogitProcessors
from shared.speculation.sparse_row import SparseRow
from verifier.target.processing import Processing, SeenTokens
from verifier.target.round import DraftCheck
from verifier.target.token_masks import TokenMasks
from verifier.workers.columns import unpacked
from verifier.workers.messages import WireCheck, WireSeen

_MOST_PROCESSINGS = 1024  # that are kept ready; each is some kilobytes at most


def pack_check(check: DraftCheck, seen: WireSeen | None) -> WireCheck:
    """All but its tokens, rows and masks; `seen` is what is new of `check.seen`."""
    processing = check.processing
    return WireCheck(
        num_drafts=len(check.draft_token_ids),
        mode=check.mode,
        sampling=check.sampling,
        seed=check.seed,
        position=check.position,
        draws_bonus=check.draws_bonus,
        num_rows=len(check.rows),
        has_masks=check.masks is not None,
        num_forced=check.num_forced,
        num_logprobs=check.num_logprobs,
        processors=None if processing is None else processing.processors,
        end_ids=() if processing is None else tuple(sorted(processing.end_ids)),
        seen=seen,
    )


def unpack_check(
    wire: WireCheck,
    token_ids: tuple[int, ...],
    rows: Iterator[SparseRow],
    masks: TokenMasks | None,
    seen: SeenTokens | None,
    vocab_size: int,
) -> DraftCheck:
    """The check of an item with these tokens; it takes its rows of the iterator.

    Raises:
        RemoteProtocolError: it does not fit its item.
    """
    if wire.num_drafts >= len(token_ids) or wire.num_forced > wire.num_drafts:
        raise RemoteProtocolError(f"{wire.num_drafts} drafts in an item of {len(token_ids)} tokens")
    own_rows = tuple(islice(rows, wire.num_rows))
    is_tested = wire.mode == "rejection" and not wire.sampling.is_greedy
    num_needed = wire.num_drafts if is_tested else wire.num_rows
    if not len(own_rows) == wire.num_rows == num_needed or wire.num_rows > wire.num_drafts:
        raise RemoteProtocolError(f"{len(own_rows)} rows for {wire.num_drafts} drafts")
    processing = None
    if wire.processors is not None:
        processing = _processing(wire.processors, wire.end_ids)
        _check_processors(wire.processors, wire.end_ids, vocab_size)
    return DraftCheck(
        draft_token_ids=token_ids[len(token_ids) - wire.num_drafts :],
        rows=own_rows,
        mode=wire.mode,
        sampling=wire.sampling,
        seed=wire.seed,
        position=wire.position,
        draws_bonus=wire.draws_bonus,
        processing=processing,
        seen=seen,
        num_logprobs=wire.num_logprobs,
        masks=masks,
        num_forced=wire.num_forced,
    )


def pack_rows(checks: Sequence[DraftCheck | None]) -> tuple[bytes, bytes, bytes]:
    """Of all checks: entries of each row, their tokens, their weights, as boards sent them."""
    rows = [row for check in checks if check is not None for row in check.rows]
    if not rows:
        return b"", b"", b""
    counts = np.array([len(row.token_ids) for row in rows], dtype="<u2")
    token_ids = np.concatenate([row.token_ids for row in rows]).astype("<u4", copy=False)
    weights = np.concatenate([row.weights for row in rows]).astype("<u2", copy=False)
    return counts.tobytes(), token_ids.tobytes(), weights.tobytes()


def unpack_rows(
    num_entries: bytes, packed_ids: bytes, packed_weights: bytes, vocab_size: int
) -> list[SparseRow]:
    """What `pack_rows` packed.

    Raises:
        RemoteProtocolError: it does not come out even, or a token or a weight cannot be.
    """
    counts = unpacked(num_entries, "<u2", "entries of rows").tolist()
    total = sum(counts)
    token_ids = unpacked(packed_ids, "<u4", "tokens of rows", total)
    weights = unpacked(packed_weights, "<u2", "weights of rows", total)
    if total and (int(token_ids.max()) >= vocab_size or not weights.all() or not all(counts)):
        raise RemoteProtocolError("a row holds nothing, or what is no token or no weight")
    rows, start = [], 0
    for count in counts:
        end = start + count
        rows.append(SparseRow(token_ids[start:end], weights[start:end]))
        start = end
    return rows


def _check_processors(processors: LogitProcessors, end_ids: Sequence[int], vocab_size: int) -> None:
    biased = [token_id for token_id, _ in processors.logit_bias]
    if max((*biased, *processors.stop_token_ids, *end_ids), default=0) >= vocab_size:
        raise RemoteProtocolError(f"a processed token lies beyond a vocabulary of {vocab_size}")


@lru_cache(_MOST_PROCESSINGS)
def _processing(processors: LogitProcessors, end_ids: tuple[int, ...]) -> Processing:
    """By content: no stream is remembered."""
    return Processing.of(processors, frozenset(end_ids))
