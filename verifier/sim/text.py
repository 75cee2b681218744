"""The scripted text of a stream: what the target says, and what its board drafts."""

from __future__ import annotations

from verifier.sim.acceptance import Acceptance

VOCAB_SIZE = 1024
END_ID = 0  # never said
PROMPT_ID = 1
_SPAN = 1021  # a prime below the size of the vocabulary


class StreamText:
    """Token ids by output position."""

    __slots__ = ("_acceptance", "_number")

    def __init__(self, number: int, acceptance: Acceptance) -> None:
        self._number = number
        self._acceptance = acceptance

    def target_token(self, position: int) -> int:
        """The target's own, given all before."""
        return (position * 7919 + self._number * 31) % _SPAN + 1

    def draft_token(self, position: int, depth: int, now: float) -> int:
        """The board's, given the target's own up to there; see `Acceptance.is_right`."""
        token_id = self.target_token(position)
        if self._acceptance.is_right(position, depth, now):
            return token_id
        return token_id % _SPAN + 2

    def confidence(self, position: int) -> int:
        """How sure the board is of that token, before it is drawn."""
        return self._acceptance.confidence(position)
