"""One tally for generations and load tests."""

from __future__ import annotations

from edge_agent.drafting.verdict import Committed
from edge_agent.generation.counts import Counts


def test_drafts_count_tokens_and_bytes() -> None:
    counts = Counts()
    counts.record_draft(3, 20)
    counts.record_draft(0, 9)
    assert Counts(drafted_tokens=3, wire_bytes=29) == counts


def test_a_verdict_without_a_draft_is_a_verdict_and_no_more() -> None:
    counts = Counts()
    counts.record_verdict(Committed((5,), 0, 0, 0, 0), 12)
    assert Counts(num_verdicts=1, wire_bytes=12) == counts


def test_accepted_rejected_and_survived_tokens_add_up() -> None:
    counts = Counts()
    counts.record_verdict(Committed((5, 6, 7), 2, 3, 4, 2), 12)
    counts.record_verdict(Committed((8, 9), 1, 1, 0, 2), 10)
    expected = Counts(
        accepted_tokens=3,
        rejected_tokens=4,
        survived_tokens=4,
        rejections=1,
        num_verdicts=2,
        num_drafting_verdicts=2,
        wire_bytes=22,
    )
    assert expected == counts
