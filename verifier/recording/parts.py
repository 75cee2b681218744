"""What is written down of one stream's part in a round. Pure; no token is kept."""

from __future__ import annotations

from collections.abc import Sequence

from shared.protocol.draft_path import DraftToken
from verifier.recording.lines import LatePart, StreamPart
from verifier.streams.settled import Settled
from verifier.streams.stream import Stream
from verifier.target.round import RoundItem


def part_of(stream: Stream, settled: Settled) -> StreamPart:
    """The part of a stream that was just settled."""
    num_right, met = _met(stream, settled)
    late = [
        LatePart(settled.position - late.position, late.num_right, _confidences(late.tokens))
        for late in stream.met.late
    ]
    return StreamPart(
        stream=stream.number,
        num_tested=settled.num_tested,
        num_accepted=settled.num_accepted,
        num_own=len(settled.own_token_ids),
        num_right=num_right,
        confidences=_confidences(met),
        late=tuple(late),
    )


def prompt_tokens_of(item: RoundItem) -> int:
    """How many tokens of a prompt a part of a round reads: all but drafts and the newest token."""
    check = item.draft_check
    if check is None:
        return len(item.token_ids)
    return len(item.token_ids) - len(check.draft_token_ids) - 1


def _met(stream: Stream, settled: Settled) -> tuple[int, Sequence[DraftToken]]:
    """How many tokens were right in turn, and those with the wrong one behind them.

    In `rejection` only what was tested: it is accepted by chance, whatever the target writes.
    """
    is_coupled = stream.request.mode == "coupled"
    live, output_ids, start = stream.met.live, stream.output_ids, settled.position
    most = min(settled.num_tokens if is_coupled else settled.num_tested, len(live))
    num_right = settled.num_accepted
    if is_coupled:
        while num_right < most and live[num_right].token_id == output_ids[start + num_right]:
            num_right += 1
    return num_right, live[: min(num_right + 1, most)]


def _confidences(tokens: Sequence[DraftToken]) -> bytes:
    return bytes([token.confidence for token in tokens])
