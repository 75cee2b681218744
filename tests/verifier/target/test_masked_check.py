"""What is drawn where masks are late: a check is cut, or made again, and never drawn unmasked."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from shared.protocol.messages import AcceptanceMode
from shared.speculation.sampling import PLAIN_SAMPLING
from tests.support.statistics.distributions import row_of
from verifier.target.masked_check import MaskedCheck, masked_check
from verifier.target.round import DraftCheck, ItemFailure, ItemOutcome
from verifier.target.token_masks import PackedMasks

DRAFTS = (3, 1, 2)


class ReadyMasks:
    """Implements `TokenMasks` with the first rows, or none for ever."""

    def __init__(self, num_rows: int | None) -> None:
        self._num_rows = num_rows

    def begin(self) -> None:
        """They are there."""

    def wait(self, deadline: float) -> PackedMasks | None:
        if self._num_rows is None:
            return None
        return np.arange(self._num_rows, dtype=np.uint32)[:, None]

    def advance(self, token_ids: Sequence[int], seconds: float) -> tuple[int, ...]:
        raise AssertionError("nothing was drawn yet")


def check_of(mode: AcceptanceMode, num_rows: int | None, *, draws_bonus: bool = True) -> DraftCheck:
    rows = tuple(row_of([1, 1, 1, 1]) for _ in DRAFTS) if mode == "rejection" else ()
    masks = ReadyMasks(num_rows)
    return DraftCheck(DRAFTS, rows, mode, PLAIN_SAMPLING, 0, 0, draws_bonus, masks=masks)


def left_of(check: DraftCheck) -> MaskedCheck:
    left = masked_check(check, 0.0)
    assert isinstance(left, MaskedCheck)
    return left


@pytest.mark.parametrize("mode", ["coupled", "rejection"])
def test_with_all_masks_a_check_stays_whole(mode: AcceptanceMode) -> None:
    check = check_of(mode, 4)
    left = left_of(check)
    assert check is left.check
    assert [0, 1, 2, 3] == left.masks[:, 0].tolist()  # type: ignore[index]


@pytest.mark.parametrize("num_rows", [1, 2, 3])
def test_in_coupled_mode_the_token_behind_the_last_mask_is_drawn(num_rows: int) -> None:
    left = left_of(check_of("coupled", num_rows))
    assert (DRAFTS[: num_rows - 1], True) == (left.check.draft_token_ids, left.check.draws_bonus)
    assert num_rows == left.check.num_logit_rows == len(left.masks)  # type: ignore[arg-type]


@pytest.mark.parametrize("num_rows", [1, 2, 3])
def test_in_rejection_mode_a_cut_chunk_draws_nothing_behind_it(num_rows: int) -> None:
    left = left_of(check_of("rejection", num_rows))
    assert (DRAFTS[:num_rows], False) == (left.check.draft_token_ids, left.check.draws_bonus)
    assert num_rows == left.check.num_logit_rows == len(left.check.rows)


def test_masks_that_a_check_does_not_need_are_left_out() -> None:
    left = left_of(check_of("rejection", 4, draws_bonus=False))
    assert (3, 3) == (left.check.num_logit_rows, len(left.masks))  # type: ignore[arg-type]


def test_without_a_mask_the_check_is_made_again_and_without_hope_it_fails() -> None:
    late = masked_check(check_of("coupled", 0), 0.0)
    assert isinstance(late, ItemOutcome)
    assert late.is_late
    failed = masked_check(check_of("coupled", None), 0.0)
    assert ItemOutcome(0, None, failure=ItemFailure.GRAMMAR) == failed
    assert isinstance(failed, ItemOutcome)
    assert not failed.is_late


def test_without_a_grammar_nothing_happens() -> None:
    check = msgspec.structs.replace(check_of("coupled", 4), masks=None)
    assert MaskedCheck(check, None) == masked_check(check, 0.0)
