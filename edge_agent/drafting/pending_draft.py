"""Draft tokens that wait to be sent together; pure."""

from __future__ import annotations

from collections.abc import Sequence

from shared.protocol.draft_path import DraftPath, DraftToken

# In `coupled` a token is worth nothing before it is sent, and a message costs some 20 bytes.
COUPLED_DRAFT_TOKENS = 4


class PendingDraft:
    """The tokens in order, with what they cost and how many the next Draft should hold."""

    __slots__ = ("chunk_length", "drafting_seconds", "tokens")

    def __init__(self) -> None:
        self.tokens: list[DraftToken] = []
        self.chunk_length = 0  # `rejection`: a guess at the head included; fixed at the first token
        self.drafting_seconds = 0.0

    @property
    def is_guess(self) -> bool:
        """Whether there is nothing but a guess of the bonus token, in `rejection`."""
        return bool(self.tokens) and not self.tokens[-1].has_row

    @property
    def is_whole_chunk(self) -> bool:
        """Whether all that the chunk should hold is there."""
        return len(self.tokens) >= self.chunk_length

    def is_worth_sending(self, draft_length: int) -> bool:
        """Whether there is enough for a message of `coupled`; 0: as many as the board likes."""
        return len(self.tokens) >= (draft_length or COUPLED_DRAFT_TOKENS)

    def begin_chunk(self, draft_length: int, room: int, *, has_guess: bool) -> bool:
        """Fix what the next draft should hold, in `rejection`, before its first token.

        Returns whether the room takes at least one token that can be tested.
        """
        if room <= has_guess:
            return False
        self.chunk_length = min(draft_length, room - has_guess) + has_guess
        return True

    def append(self, token: DraftToken, seconds: float) -> None:
        """Another token was drafted within that time."""
        self.tokens.append(token)
        self.drafting_seconds += seconds

    def strike(self, token_ids: Sequence[int]) -> int | None:
        """These were committed before the draft was sent: equal ones go.

        Returns how many did, where a token differs: the draft is wrong from there on.
        """
        for i, token_id in enumerate(token_ids):
            if not self.tokens:
                return None  # the target was faster
            if self.tokens[0].token_id != token_id:
                return i
            self._strike_first()
        return None

    def settle(self, before: DraftPath, after: DraftPath, output_ids: Sequence[int]) -> int | None:
        """A verdict committed these tokens: from which position on drafts are wrong, if any are.

        `before` and `after`: the path of what was sent.
        """
        if after.base > before.base:
            return after.base - 1
        num_live = len(before.live)
        num_struck = self.strike(output_ids[num_live:])
        return None if num_struck is None else before.position + num_live + num_struck

    def clear(self) -> None:
        """All were sent, or are worth nothing."""
        self.tokens.clear()
        self.chunk_length = 0
        self.drafting_seconds = 0.0

    def _strike_first(self) -> None:
        # Its share of the time goes with it.
        self.drafting_seconds -= self.drafting_seconds / len(self.tokens)
        self.tokens.pop(0)
        self.chunk_length = max(self.chunk_length - 1, 1)
