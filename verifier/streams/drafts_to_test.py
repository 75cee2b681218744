"""What of a stream's drafts a round tests, and how: pure functions of the stream as it stands."""

from __future__ import annotations

from shared.protocol.draft_path import DraftToken
from verifier.streams.stream import Stream
from verifier.target.round import DraftCheck


def num_drafts_to_test(stream: Stream) -> int:
    """Live tokens that a round could test now."""
    if stream.request.mode == "coupled":
        return min(len(stream.path.live), _room(stream))
    return len(drafts_to_test(stream, stream.request.max_output_tokens)[0])


def drafts_to_test(stream: Stream, most: int) -> tuple[tuple[DraftToken, ...], bool]:
    """The live tokens to test in a round, `most` at most, and whether a bonus may follow.

    In `rejection` at most the rest of one chunk, and a guess of the bonus token is not tested.
    """
    room, live = _room(stream), stream.path.live
    most = min(most, room)
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


def draft_check(stream: Stream, tested: tuple[DraftToken, ...], draws_bonus: bool) -> DraftCheck:
    """What the target is to check for this stream."""
    request = stream.request
    # Lists first: for a few elements a generator costs more than what it makes.
    rows = [token.row for token in tested if token.row is not None] if tested else ()
    draft_token_ids = tuple([token.token_id for token in tested])
    return DraftCheck(
        draft_token_ids=draft_token_ids,
        rows=tuple(rows),
        mode=request.mode,
        sampling=request.sampling,
        seed=request.seed,
        position=stream.position,
        draws_bonus=draws_bonus,
        processing=stream.processing,
        num_logprobs=request.num_logprobs,
        seen=stream.census.seen(draft_token_ids) if stream.census is not None else None,
    )


def _room(stream: Stream) -> int:
    """Draft tokens that fit, with the target's own token behind them."""
    return max(stream.request.max_output_tokens - stream.position - 1, 0)
