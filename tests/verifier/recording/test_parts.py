"""What is written down of a round's part says which draft tokens met what was committed."""

from __future__ import annotations

from typing import Any

import pytest

from shared.protocol.draft_path import DraftToken
from tests.support.ends.planning import make_stream
from verifier.recording.lines import LatePart, StreamPart
from verifier.recording.parts import part_of
from verifier.streams.late_draft import LateDraft, MetDrafts
from verifier.streams.settled import Settled


def tokens(*token_ids: int) -> tuple[DraftToken, ...]:
    """Each is as sure as its id says."""
    return tuple(DraftToken(token_id, confidence=token_id) for token_id in token_ids)


def part(live: tuple[int, ...], settled: Settled, *late: LateDraft, **request: Any) -> StreamPart:
    """Of a stream that has committed 5, 6, 7, 8 so far."""
    stream = make_stream(1, **request)
    stream.output_ids = [5, 6, 7, 8]
    stream.met = MetDrafts(tokens(*live), late)
    return part_of(stream, settled)


@pytest.mark.parametrize(
    ("live", "num_right", "confidences"),
    [
        ((), 0, b""),
        ((7,), 1, bytes([7])),
        ((7, 8, 9), 2, bytes([7, 8])),  # the bonus was drafted, and is right
        ((7, 3, 9), 1, bytes([7, 3])),
        ((4, 8), 0, bytes([4])),
    ],
)
def test_untested_tokens_that_met_the_target_count(
    live: tuple[int, ...], num_right: int, confidences: bytes
) -> None:
    num_accepted = int(live[:1] == (7,))
    settled = Settled(2, num_accepted, (7, 8)[num_accepted:], len(live[:1]))
    found = part(live, settled)
    assert (num_right, confidences) == (found.num_right, found.confidences)
    assert (1, len(live[:1]), num_accepted) == (found.stream, found.num_tested, found.num_accepted)


def test_in_rejection_only_what_was_tested_counts() -> None:
    found = part((7, 8), Settled(2, 1, (8,), 1), mode="rejection")
    assert (1, bytes([7])) == (found.num_right, found.confidences)
    found = part((7, 9), Settled(2, 1, (8,), 2), mode="rejection")
    assert (1, bytes([7, 9])) == (found.num_right, found.confidences)


def test_late_tokens_stand_as_far_back_as_they_were_drafted() -> None:
    found = part((), Settled(3, 0, (8,), 0), LateDraft(1, 1, tokens(6, 3)))
    assert (LatePart(2, 1, bytes([6, 3])),) == found.late
