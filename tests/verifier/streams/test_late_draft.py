from __future__ import annotations

from shared.protocol.draft_path import DraftPath, DraftToken, Extension
from verifier.streams.late_draft import late_draft

COMMITTED = (5, 6, 7, 8)
PATH = DraftPath.begin(0).commit(COMMITTED)  # the target was faster than its board


def late(*token_ids: int, position: int = 0) -> tuple[int, int, int] | None:
    """Position, right and wrong tokens of what came of this draft too late."""
    draft = Extension(0, position, tuple(map(DraftToken, token_ids)))
    found = late_draft(PATH, PATH.extend(draft, COMMITTED, 64), draft)
    if found is None:
        return None
    assert len(found.tokens) == found.num_right + found.num_wrong
    return found.position, found.num_right, found.num_wrong


def test_tokens_behind_what_is_committed_are_not_late() -> None:
    assert None is late(9, position=4)


def test_late_tokens_are_right_as_far_as_the_target_wrote_the_same() -> None:
    assert (0, 2, 0) == late(5, 6)
    assert (1, 3, 0) == late(6, 7, 8, 9, position=1)  # the last one is in time
    assert (0, 2, 1) == late(5, 6, 3, 8)
    assert (2, 0, 1) == late(1, position=2)


def test_what_is_known_already_is_not_late_again() -> None:
    known = PATH.extend(Extension(0, 0, (DraftToken(5), DraftToken(6))), COMMITTED, 64)
    again = Extension(0, 0, tuple(map(DraftToken, (5, 6, 7))))
    found = late_draft(known, known.extend(again, COMMITTED, 64), again)
    assert found is not None
    assert (2, 1, (DraftToken(7),)) == found
