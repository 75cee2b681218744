"""A stream's path: the draft tokens since the agent last rolled back, and what became of them.

Both ends keep one path for each stream and run the same methods on it, so both always agree
on which draft tokens are still worth anything, without round numbers and whatever was late or
repeated:

- committed tokens strike path tokens off while they are equal; at the first difference the path is
  dead, and the position just after the difference is the `base` of the next one;
- drafts of an older base are dropped silently, because both ends know why;
- on a path drafts are contiguous: a gap is an error, an identical overlap is ignored, a
  different one is an error.

The agent's path holds the tokens that it has *sent*; the verifier's those that it has received.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from shared.errors import RemoteProtocolError
from shared.speculation.confidence import UNKNOWN_CONFIDENCE
from shared.speculation.sparse_row import SparseRow


class DraftToken(msgspec.Struct, frozen=True, gc=False):
    """One live token of a path."""

    token_id: int
    row: SparseRow | None = None  # None: greedy, coupled, certain, or a guess of the bonus token
    ends_chunk: bool = False
    confidence: int = UNKNOWN_CONFIDENCE  # of who drafted it, before it was drawn
    is_certain: bool = False  # a board looked it up: the row that is sent holds nothing else

    @property
    def has_row(self) -> bool:
        """Whether the verifier can accept or reject it by a row."""
        return self.row is not None or self.is_certain


class Extension(msgspec.Struct, frozen=True, gc=False):
    """A draft as the path sees it."""

    base: int
    position: int
    tokens: tuple[DraftToken, ...]


class DraftPath(msgspec.Struct, frozen=True, gc=False):
    """Positions count output tokens; `base <= end` and `live` covers [position, end)."""

    base: int = 0
    position: int = 0  # the committed length
    end: int = 0  # just after the last token of this path, struck off ones included
    live: tuple[DraftToken, ...] = ()
    passed_at: int | None = None  # position of the last pass (an empty draft in `rejection`)

    @property
    def has_passed(self) -> bool:
        """Whether the board said that it drafts nothing for the position that is next."""
        return self.passed_at == self.position

    @classmethod
    def begin(cls, position: int) -> DraftPath:
        """The path of a stream that is taken up at `position`: nothing is in flight."""
        return cls(base=position, position=position, end=position)

    def commit(self, token_ids: Sequence[int]) -> DraftPath:
        """The path after these tokens were committed."""
        position = self.position + len(token_ids)
        for i, (token, token_id) in enumerate(zip(self.live, token_ids, strict=False)):
            if token.token_id != token_id:
                base = self.position + i + 1
                return DraftPath(base=base, position=position, end=base)
        # By hand here and in `extend`: `msgspec.structs.replace` takes four times as long.
        live = self.live[len(token_ids) :]
        return DraftPath(self.base, position, self.end, live, self.passed_at)

    def restart(self) -> DraftPath:
        """The path after a verdict without a window in `rejection`: nothing drafted so far counts.

        The new base lies one ahead, so that drafts in flight fall behind it; before the next grant
        the target commits at least that token alone.
        """
        base = self.position + 1
        return DraftPath(base=base, position=self.position, end=base)

    def check_place(self, base: int, position: int, num_tokens: int, limit: int) -> None:
        """Whether `extend` takes so many tokens at a position; `base` is not an older one.

        Raises:
            RemoteProtocolError: a gap, a base that never was, or tokens at or beyond `limit`.
        """
        if base > self.base:
            raise RemoteProtocolError(f"draft base {base} is ahead of {self.base}")
        if position < base:
            raise RemoteProtocolError(f"draft at {position} starts before its base {base}")
        contiguous = self.position + len(self.live)
        if position > contiguous:
            raise RemoteProtocolError(f"draft at {position} leaves a gap after {contiguous}")
        end = position + num_tokens
        if end > limit:
            raise RemoteProtocolError(
                f"draft up to {end} exceeds the window, which ends at {limit}"
            )

    def extend(self, draft: Extension, committed: Sequence[int], limit: int) -> DraftPath:
        """The path after a draft arrived; `committed` are all output tokens.

        `limit` is the furthest end granted so far: a window may shrink while a draft is on its way.

        Raises:
            RemoteProtocolError: a gap, a conflicting overlap, a base that never was, or tokens at
                or beyond `limit`.
        """
        if draft.base < self.base:
            return self
        self.check_place(draft.base, draft.position, len(draft.tokens), limit)
        if not draft.tokens:
            latest = max(draft.position, self.passed_at or 0)  # an older pass may arrive again
            return msgspec.structs.replace(self, passed_at=latest)
        num_known = max(self.end - draft.position, 0)
        if num_known:
            _check_overlap(self, draft, committed, num_known)
        for i, token in enumerate(draft.tokens[num_known:], start=num_known):
            position = draft.position + i
            if position >= self.position:
                end, live = draft.position + len(draft.tokens), self.live + draft.tokens[i:]
                return DraftPath(self.base, self.position, end, live, self.passed_at)
            if token.token_id != committed[position]:
                return DraftPath(base=position + 1, position=self.position, end=position + 1)
        return msgspec.structs.replace(self, end=max(self.end, draft.position + len(draft.tokens)))


def _check_overlap(
    path: DraftPath, draft: Extension, committed: Sequence[int], num_known: int
) -> None:
    for i, token in enumerate(draft.tokens[:num_known]):
        position = draft.position + i
        if position < path.position:
            expected = committed[position]
        else:
            expected = path.live[position - path.position].token_id
        if token.token_id != expected:
            raise RemoteProtocolError(f"draft conflicts with an earlier one at position {position}")
