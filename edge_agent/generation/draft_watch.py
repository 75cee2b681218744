"""Whether an assigned draft is worse than the board's own, as the board itself sees it.

The verifier compares drafts and says which to use; a board does not depend on that: what streams
prove here is enough to go back to its own draft. Pure.
"""

from __future__ import annotations

import math

import msgspec

from shared.speculation.draft_choice import OWN, proven
from shared.speculation.paired_test import Finding, PairedRates
from shared.speculation.smoothing import smoothed

# Shorter answers do not say how fast they were written.
LEAST_TOKENS = 16
# A draft of which fewer tokens survive than this drafts for nothing, however fast it is.
LEAST_SURVIVAL = 0.1
# Tested tokens until that is believed, and those that count: a round tests a handful.
LEAST_TESTED = 200
_SMOOTHING = 1.0 / 200


class StreamOutcome(msgspec.Struct, frozen=True):
    """What a stream came to."""

    tokens_per_second: float = 0.0  # behind the first token; 0: too short to say
    num_survived: int = 0  # draft tokens that the target wrote, too
    num_rejected: int = 0


class DraftWatch:
    """Of one board."""

    def __init__(self) -> None:
        self._records: dict[bytes, _Record] = {}

    def forget_all_but(self, drafts: set[bytes]) -> None:
        """These are assigned; what others came to is forgotten."""
        self._records = {key: one for key, one in self._records.items() if key in drafts}

    def observe(self, draft: bytes, outcome: StreamOutcome) -> str | None:
        """A stream with this draft ended; why the draft should not be used, where that is proven.

        Streams with the board's own draft are what the others are compared with.
        """
        if draft == OWN:
            if outcome.tokens_per_second > 0.0:
                for record in self._records.values():
                    record.rates.add(outcome.tokens_per_second, is_ours=False)
            return None
        record = self._records.setdefault(draft, _Record())
        return record.observe(outcome)


class _Record:
    def __init__(self) -> None:
        self.rates = PairedRates()  # over the board's own draft
        self._survival: float | None = None
        self._num_tested = 0

    def observe(self, outcome: StreamOutcome) -> str | None:
        num_tested = outcome.num_survived + outcome.num_rejected
        if num_tested:
            share = outcome.num_survived / num_tested
            step = 1.0 - math.pow(1.0 - _SMOOTHING, num_tested)
            self._survival = smoothed(self._survival, share, step)
            self._num_tested += num_tested
        if outcome.tokens_per_second > 0.0:
            self.rates.add(outcome.tokens_per_second, is_ours=True)
        survival = self._survival
        is_known = survival is not None and self._num_tested >= LEAST_TESTED
        if survival is not None and is_known and survival < LEAST_SURVIVAL:
            return f"{survival:.0%} of its tokens are accepted"
        if proven(self.rates) is Finding.SLOWER:
            slower = 1.0 - math.exp(self.rates.pairs.mean)
            return f"answers are written {slower:.0%} slower with it than with the board's own"
        return None
