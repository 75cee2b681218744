"""Which draft a board would write fastest with, from what it tells of itself and what was judged.

Drafting one token reads all weights once, so a board needs about as many times longer for a draft
as that has more bytes than the one whose speed it measured. Pure. This module must never know of
live traffic; what streams came to is compared elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from shared.speculation.goodput import expected_tokens
from verifier.drafts.kept_draft import KeptDraft

# Drafts beyond this are seldom worth their place in a round.
MOST_DRAFT_TOKENS = 16


class BoardProfile(msgspec.Struct, frozen=True):
    """What a board told of the draft model that its settings name."""

    draft_bytes: int  # of its file; 0: not told
    draft_token_seconds: float | None  # that it needs for one token; None: not told

    def token_seconds(self, num_bytes: int) -> float | None:
        """What it would need with a draft of so many bytes; None: that cannot be said."""
        if not self.draft_bytes or not self.draft_token_seconds:
            return None
        return self.draft_token_seconds * num_bytes / self.draft_bytes


def expected_round_tokens(
    draft: KeptDraft, profile: BoardProfile, round_seconds: float
) -> float | None:
    """Tokens of a round with what the board has drafted by then; None: that cannot be said."""
    seconds = profile.token_seconds(draft.num_bytes)
    if seconds is None or draft.acceptance is None:
        return None
    return expected_tokens(draft.acceptance, min(MOST_DRAFT_TOKENS, round_seconds / seconds))


def most_suitable(
    drafts: Mapping[str, KeptDraft],
    profile: BoardProfile,
    round_seconds: float,
    labels: Collection[str] = (),
) -> str | None:
    """The draft to give to a board; of those with one of the labels, if any are wanted.

    None: nothing is known to be worth it. Of equals the smallest, then the first by name.
    """
    found = []
    for name, draft in drafts.items():
        if labels and not set(labels) & set(draft.labels):
            continue
        tokens = expected_round_tokens(draft, profile, round_seconds)
        if tokens is not None and tokens > 1.0:
            found.append((-tokens, draft.num_bytes, name))
    return min(found)[2] if found else None
