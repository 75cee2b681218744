"""Draft tokens that came after their positions were committed: they were tested all the same.

Pure; this module must never decide what a late token is worth.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from shared.protocol.draft_path import DraftPath, DraftToken, Extension


class LateDraft(NamedTuple):
    """Tokens in turn that met the target's own, of which the last one may differ."""

    position: int  # of the first one, in the output
    num_right: int
    tokens: tuple[DraftToken, ...]  # as far as they met it

    @property
    def num_wrong(self) -> int:
        return len(self.tokens) - self.num_right


class MetDrafts(msgspec.Struct, frozen=True, gc=False):
    """What a round's tokens, and those before it, met of the board's."""

    live: tuple[DraftToken, ...]  # from the round's first position on, tested or not
    late: tuple[LateDraft, ...]  # that came since the round before


NOTHING_MET = MetDrafts((), ())


def late_draft(before: DraftPath, after: DraftPath, draft: Extension) -> LateDraft | None:
    """What of a draft of the path `before`, which made it `after`, came late; None: nothing."""
    first = max(before.end, draft.position)
    is_wrong = after.base > before.base
    last = after.base - 1 if is_wrong else min(after.position, after.end)
    num_right = last - first
    if not is_wrong and num_right <= 0:
        return None
    start = first - draft.position
    return LateDraft(first, num_right, draft.tokens[start : start + num_right + is_wrong])
