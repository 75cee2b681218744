"""What is left of a check when it is time to draw: rows without a mask cannot be drawn from.

Pure but for the wait for masks that are late.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from verifier.target.round import DraftCheck, ItemFailure, ItemOutcome
from verifier.target.token_masks import PackedMasks

# How long a round waits for all of its masks together, from when its logits are on their way. Most
# take 0.01 to 0.8 ms each; one that is late costs its own stream this round.
MOST_WAIT_SECONDS = 0.02


class MaskedCheck(msgspec.Struct, frozen=True):
    """A check whose rows can be drawn from."""

    check: DraftCheck  # with fewer drafts where masks are late
    masks: PackedMasks | None  # of its rows; None: all tokens may come


def begin_masks(checks: Iterable[DraftCheck | None]) -> None:
    """Let masks be made from now on; for a target whose forward pass keeps its thread busy."""
    for check in checks:
        if check is not None and check.masks is not None:
            check.masks.begin()


def masked_check(check: DraftCheck, deadline: float) -> MaskedCheck | ItemOutcome:
    """The check with its masks, or its outcome where nothing can be drawn."""
    if check.masks is None:
        return MaskedCheck(check, None)
    masks = check.masks.wait(deadline)
    if masks is None:
        return ItemOutcome(0, None, failure=ItemFailure.GRAMMAR)
    if not len(masks):
        return ItemOutcome(0, None)
    return MaskedCheck(_cut(check, len(masks)), masks[: check.num_logit_rows])


def _cut(check: DraftCheck, num_rows: int) -> DraftCheck:
    """A check that needs no more rows; its last drafts stay for another round."""
    if num_rows >= check.num_logit_rows:
        return check
    # In `rejection` nothing may be drawn behind a chunk that is cut.
    num_drafts = num_rows if check.is_tested else num_rows - 1
    seen = check.seen
    if seen is not None:
        seen = msgspec.structs.replace(seen, draft_places=seen.draft_places[:num_drafts])
    return msgspec.structs.replace(
        check,
        draft_token_ids=check.draft_token_ids[:num_drafts],
        rows=check.rows[:num_drafts],
        draws_bonus=not check.is_tested,
        seen=seen,
    )
