"""What of a stream's drafts a round tests, and how: pure functions of the stream as it stands.

Beside what its board drafts there is what a grammar forces: the verifier's own drafts, which follow
with certainty. They are tested like others, because a text may be cut into tokens in several ways.
"""

from __future__ import annotations

import numpy as np

from shared.protocol.draft_path import DraftToken
from shared.protocol.messages import MAX_DRAFT_TOKENS
from shared.speculation.sparse_row import WEIGHT_TOTAL, SparseRow
from verifier.streams.stream import Stream
from verifier.target.round import DraftCheck


def num_drafts_to_test(stream: Stream) -> int:
    """Live tokens that a round could test now."""
    if not stream.forced_ids and stream.request.mode == "coupled":
        return min(len(stream.path.live), _room(stream))
    return len(drafts_to_test(stream, stream.request.max_output_tokens)[0])


def drafts_to_test(stream: Stream, most: int) -> tuple[tuple[DraftToken, ...], bool]:
    """The tokens to test in a round, `most` at most, and whether a bonus may follow.

    In `rejection` at most the rest of one chunk, and a guess of the bonus token is not tested.
    """
    live = stream.path.live
    if not live and not stream.forced_ids:
        return (), True
    room = _room(stream)
    most = min(most, room)
    forced = forced_drafts(stream)
    if forced is not None:
        num_live, token_ids = forced
        drafts = (*live[:num_live], *[DraftToken(token_id) for token_id in token_ids])
        return drafts[:most], True
    if stream.request.mode == "coupled":
        return live[:most], True
    num_whole = 0
    for token in live:
        if token.row is None:
            break
        num_whole += 1
        if token.ends_chunk:
            break
    num_tested = min(num_whole, most)
    # A chunk cut by the end of the stream would commit its last token without a test.
    return live[:num_tested], num_tested in (num_whole, room)


def forced_drafts(stream: Stream) -> tuple[int, tuple[int, ...]] | None:
    """How many live tokens go before the forced ones that are tested, and those; None: none are.

    What a board has drafted in `rejection` must be tested, and nothing else in its place.
    """
    forced, live = stream.forced_ids, stream.path.live
    if not forced:
        return None
    if stream.request.mode == "rejection":
        return None if live else (0, forced)
    num_shared = min(len(live), len(forced))
    if [token.token_id for token in live[:num_shared]] != list(forced[:num_shared]):
        return 0, forced
    return None if len(live) >= len(forced) else (len(live), forced[len(live) :])


def has_its_masks(stream: Stream) -> bool:
    """Whether a round need not wait long for the stream's grammar, if it has one."""
    if stream.grammar is None or stream.grammar.is_quick or stream.reads_prompt:
        return True
    tested, _ = drafts_to_test(stream, MAX_DRAFT_TOKENS)
    token_ids = [token.token_id for token in tested]
    return stream.grammar.is_ready(stream.output_ids, token_ids)


def draft_check(stream: Stream, tested: tuple[DraftToken, ...], draws_bonus: bool) -> DraftCheck:
    """What the target is to check for this stream; its masks begin to be made."""
    request = stream.request
    token_ids = tuple([token.token_id for token in tested])
    masks, num_forced = None, 0
    # Lists first: for a few elements a generator costs more than what it makes.
    is_coupled = request.mode == "coupled"
    rows = () if is_coupled else [token.row for token in tested if token.row is not None]
    if stream.grammar is not None:
        masks = stream.grammar.masks(stream.output_ids, token_ids)
        forced = forced_drafts(stream)
        num_forced = max(len(tested) - forced[0], 0) if forced is not None else 0
        if num_forced and request.mode == "rejection":
            rows = [_certain(token_id) for token_id in token_ids]
    return DraftCheck(
        draft_token_ids=token_ids,
        rows=tuple(rows),
        mode=request.mode,
        sampling=request.sampling,
        seed=request.seed,
        position=stream.position,
        draws_bonus=draws_bonus,
        processing=stream.processing,
        num_logprobs=request.num_logprobs,
        seen=stream.census.seen(token_ids) if stream.census is not None else None,
        masks=masks,
        num_forced=num_forced,
    )


def _certain(token_id: int) -> SparseRow:
    return SparseRow(np.array([token_id], np.uint32), np.array([WEIGHT_TOTAL], np.uint16))


def _room(stream: Stream) -> int:
    """Draft tokens that fit, with the target's own token behind them."""
    return max(stream.request.max_output_tokens - len(stream.output_ids) - 1, 0)
