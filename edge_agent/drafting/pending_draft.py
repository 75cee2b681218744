"""Draft tokens that wait to be sent together; pure."""

from __future__ import annotations

from collections.abc import Iterator

from shared.protocol.draft_path import DraftToken


class PendingDraft:
    """The tokens in order, with what they cost and how many the next Draft should hold."""

    __slots__ = ("_tokens", "chunk_length", "drafting_seconds")

    def __init__(self) -> None:
        self._tokens: list[DraftToken] = []
        self.chunk_length = 0  # `rejection`: a guess at the head included; fixed at the first token
        self.drafting_seconds = 0.0

    def __iter__(self) -> Iterator[DraftToken]:
        return iter(self._tokens)

    def __len__(self) -> int:
        return len(self._tokens)

    @property
    def first(self) -> DraftToken:
        """The one that is the next to be sent."""
        return self._tokens[0]

    @property
    def is_guess(self) -> bool:
        """Whether there is nothing but a guess of the bonus token, in `rejection`."""
        return bool(self._tokens) and self._tokens[-1].row is None

    def append(self, token: DraftToken, seconds: float) -> None:
        """Another token was drafted within that time."""
        self._tokens.append(token)
        self.drafting_seconds += seconds

    def strike_first(self) -> None:
        """The first token was committed before it was sent; its share of the time goes with it."""
        self.drafting_seconds -= self.drafting_seconds / len(self._tokens)
        self._tokens.pop(0)
        self.chunk_length = max(self.chunk_length - 1, 1)

    def clear(self) -> None:
        """All were sent, or are worth nothing."""
        self._tokens.clear()
        self.chunk_length = 0
        self.drafting_seconds = 0.0
