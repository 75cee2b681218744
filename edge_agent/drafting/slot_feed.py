"""What the draft model's slot has read of one stream, and how much of that it may keep.

Pure: positions count the stream's tokens from the first of its prompt. This module must never
know a token; the stream says how many are still right.
"""

from __future__ import annotations

from dataclasses import dataclass

# The board says Ready when it is this close behind the target: one small batch away.
READY_WITHIN_TOKENS = 8


@dataclass(slots=True, eq=False)
class SlotFeed:
    """Mutable; owned by its stream, which has at most one step running."""

    num_fed_tokens: int = 0  # tokens in the slot that are still right
    num_feeding_tokens: int = 0  # the same when the step that runs has ended
    version: int = 0  # changes when tokens that were fed or are to be drawn became wrong
    drawing: tuple[int, int] | None = None  # version and position of a draw that runs

    def num_pending(self, num_tokens: int) -> int:
        """How many of the stream's tokens the slot has not read."""
        return num_tokens - self.num_fed_tokens

    def is_behind(self, num_tokens: int, chunk_tokens: int) -> bool:
        """Whether reading comes before the promise, or the keeping, of `Ready`."""
        return self.num_pending(num_tokens) > min(READY_WITHIN_TOKENS, chunk_tokens)

    def begin_step(self, num_read: int, num_tokens: int, draws_at: int | None) -> int:
        """Read the next `num_read` of `num_tokens`, and draw for a position or not.

        Returns how many tokens the slot is to keep first: fewer than it has where the newest ones
        are read again.
        """
        start = min(self.num_fed_tokens, num_tokens - num_read)
        self.num_feeding_tokens = start + num_read
        self.drawing = None if draws_at is None else (self.version, draws_at)
        return start

    def end_step(self, num_silent: int = 0) -> None:
        """All was read, and drawn in a row; what became wrong meanwhile does not count."""
        self.num_feeding_tokens += num_silent
        self.num_fed_tokens = self.num_feeding_tokens
        self.drawing = None

    def restart(self, num_held: int) -> None:
        """A step came to nothing; the slot holds `num_held` tokens, right ones first."""
        self.num_fed_tokens = self.num_feeding_tokens = min(self.num_fed_tokens, num_held)
        self.version += 1
        self.drawing = None

    def keep(self, num_right: int) -> None:
        """Only the first `num_right` tokens of the stream are what they were."""
        self.num_fed_tokens = min(self.num_fed_tokens, num_right)
        self.num_feeding_tokens = min(self.num_feeding_tokens, num_right)
        self.version += 1

    def abandon_step(self) -> None:
        """The slot is another stream's: what a running step comes to is not wanted."""
        self.version += 1

    def draws(self, position: int) -> bool:
        """Whether the step that runs draws the token of this position, from tokens still right."""
        return self.drawing == (self.version, position)

    def is_overtaken(self, num_tokens: int) -> bool:
        """Whether some of the tokens that the slot holds when the step has ended became wrong."""
        return self.num_feeding_tokens < num_tokens
