"""One tally of what became of draft tokens: of a generation, or of all that a load test runs.

Pure. This module must never know a clock: how fast it went is counted by its owner.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.drafting.verdict import Committed


@dataclass(slots=True)
class Counts:
    """Draft tokens sent and what verdicts made of them; the words of `Timings`."""

    drafted_tokens: int = 0
    accepted_tokens: int = 0
    rejected_tokens: int = 0
    survived_tokens: int = 0
    rejections: int = 0
    num_verdicts: int = 0
    num_drafting_verdicts: int = 0
    wire_bytes: int = 0

    def record_draft(self, num_tokens: int, num_bytes: int) -> None:
        """A draft of so many tokens was sent."""
        self.drafted_tokens += num_tokens
        self.wire_bytes += num_bytes

    def record_verdict(self, committed: Committed, num_bytes: int) -> None:
        """A verdict committed this."""
        self.num_verdicts += 1
        self.num_drafting_verdicts += committed.num_tested > 0
        self.accepted_tokens += committed.num_accepted
        self.rejected_tokens += committed.num_dead
        self.survived_tokens += committed.num_survived
        self.rejections += committed.num_dead > 0
        self.wire_bytes += num_bytes
