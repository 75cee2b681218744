"""What a board is told of what its streams came to: pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shared.protocol.messages import PART_BYTES, Finish, Verdict
from shared.protocol.token_ids import MAX_ID_BYTES, pack_token_ids
from verifier.rounds.planner import StreamResult

# Of an output that was committed while the board was gone, in one Verdict.
_TOLD_TOKENS = PART_BYTES // MAX_ID_BYTES


def missed_verdicts(
    channel: int, output_ids: Sequence[int], position: int, finish: Finish | None
) -> Iterator[Verdict]:
    """What a board is told that lacks the output from `position` on."""
    while len(output_ids) - position > _TOLD_TOKENS:
        told = output_ids[position : position + _TOLD_TOKENS]
        yield Verdict(channel, position, 0, pack_token_ids(told))
        position += _TOLD_TOKENS
    missing = output_ids[position:]
    if missing or finish is not None:
        yield Verdict(channel, position, 0, pack_token_ids(missing), finish=finish)


def verdict_of(channel: int, result: StreamResult) -> Verdict:
    """What a board is told about its stream after a round."""
    stream, settled = result.stream, result.settled
    is_open = stream.finish is None
    # Else the board sends as it drafts, because no round waits.
    is_chunked = stream.request.mode == "rejection" or stream.awaited_seconds > 0
    return Verdict(
        channel=channel,
        position=settled.position,
        num_accepted=settled.num_accepted,
        tokens=pack_token_ids(settled.own_token_ids),
        window=stream.window if is_open else 0,
        draft_length=stream.draft_length if is_open and is_chunked else 0,
        finish=stream.finish,
        cached_prefix_tokens=(stream.cached_prefix_tokens or 0) if settled.position == 0 else 0,
        num_forced=settled.num_forced,
    )
