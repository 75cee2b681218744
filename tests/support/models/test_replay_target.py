"""A replay target runs real rounds and accepts what the script says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.speculation.noise import Domain, uniform
from shared.speculation.sampling import GREEDY, SamplingParameters
from shared.speculation.sparse_row import SparseRow
from tests.support.models.replay_target import GUESS_ID, OTHER_ID, AcceptanceScript, ReplayTarget
from verifier.target.round import (
    DraftCheck,
    ItemFailure,
    ItemOutcome,
    Round,
    RoundItem,
    RoundOutcome,
)

RATE = 0.8
NUM_POSITIONS = 4000
SCRIPT = AcceptanceScript(RATE, NUM_POSITIONS)
ROW = SparseRow(np.array([GUESS_ID], dtype=np.uint32), np.array([65535], dtype=np.uint16))


class OneAnswer:
    """A target that says the same about every check."""

    model_name = "one answer"
    vocab_size = 100
    context_tokens = 64
    num_blocks = 8
    block_tokens = 8

    def __init__(self, answer: ItemOutcome) -> None:
        self.answer = answer
        self.rounds: list[Round] = []

    def run(self, round_: Round) -> RoundOutcome:
        self.rounds.append(round_)
        items = tuple(self.answer if item.draft_check else None for item in round_.items)
        return RoundOutcome(items, 0.25, 0.125)


def check(
    num_drafts: int, position: int, *, is_rejection: bool = False, draws_bonus: bool = True
) -> DraftCheck:
    return DraftCheck(
        draft_token_ids=(GUESS_ID,) * num_drafts,
        rows=(ROW,) * num_drafts if is_rejection else (),
        mode="rejection" if is_rejection else "coupled",
        sampling=SamplingParameters() if is_rejection else GREEDY,
        seed=3,
        position=position,
        draws_bonus=draws_bonus,
    )


def outcome_of(draft_check: DraftCheck, own: ItemOutcome | None = None) -> ItemOutcome:
    target = ReplayTarget(OneAnswer(own or ItemOutcome(0, 50)), SCRIPT)
    item = RoundItem(0, (1, *draft_check.draft_token_ids), 0, (0,), draft_check)
    (outcome,) = target.run(Round((item,))).items
    assert outcome is not None
    return outcome


def position_with(num_right: int) -> int:
    return next(i for i in range(NUM_POSITIONS) if SCRIPT.num_right(3, i) == num_right)


def test_positions_are_right_as_often_as_the_rate_says() -> None:
    num_right = sum(SCRIPT.num_right(seed, i) > 0 for seed in range(5) for i in range(4000))
    assert num_right / 20_000 == pytest.approx(RATE, abs=5 * math.sqrt(RATE * (1 - RATE) / 20_000))


@pytest.mark.parametrize(("rate", "num_right"), [(0.0, 0), (1.0, 90)])
def test_a_rate_of_0_accepts_nothing_and_of_1_everything(rate: float, num_right: int) -> None:
    assert num_right == AcceptanceScript(rate, 100).num_right(7, 10)


@given(seed=st.integers(0, 9), position=st.integers(0, NUM_POSITIONS - 1))
def test_a_run_ends_at_the_first_wrong_position(seed: int, position: int) -> None:
    num_right = SCRIPT.num_right(seed, position)
    if num_right:
        assert num_right - 1 == SCRIPT.num_right(seed, position + 1)


def test_a_position_is_drawn_from_seed_and_position_alone() -> None:
    first = uniform(3, 0, Domain.DRAFT)
    assert (first < RATE) == (SCRIPT.num_right(3, 0) > 0)
    longer = AcceptanceScript(RATE, 2 * NUM_POSITIONS)
    starts = range(NUM_POSITIONS // 2)
    assert [SCRIPT.num_right(3, i) for i in starts] == [longer.num_right(3, i) for i in starts]


def test_the_wrapped_target_runs_the_round_and_its_times_count() -> None:
    inner = OneAnswer(ItemOutcome(0, 50))
    target = ReplayTarget(inner, SCRIPT)
    round_ = Round((RoundItem(0, (1, 2), 0, (0,), None),))
    assert RoundOutcome((None,), 0.25, 0.125) == target.run(round_)
    assert [round_] == inner.rounds


@pytest.mark.parametrize("num_right", [0, 1, 2])
def test_a_draft_is_accepted_up_to_the_first_wrong_position(num_right: int) -> None:
    """The target's own token stands there."""
    draft_check = check(4, position_with(num_right))
    assert ItemOutcome(num_right, 50) == outcome_of(draft_check)


def test_the_bonus_token_is_the_boards_guess_where_the_script_goes_on() -> None:
    assert ItemOutcome(2, GUESS_ID) == outcome_of(check(2, position_with(3)))


def test_the_bonus_token_is_the_targets_own_where_the_script_ends() -> None:
    assert ItemOutcome(2, 50) == outcome_of(check(2, position_with(2)))


@pytest.mark.parametrize("token_id", [GUESS_ID, None])
def test_a_wrong_position_never_gets_the_boards_guess(token_id: int | None) -> None:
    draft_check = check(2, position_with(1))
    assert ItemOutcome(1, OTHER_ID) == outcome_of(draft_check, ItemOutcome(2, token_id))


def test_nothing_is_drawn_behind_a_chunk_that_was_cut() -> None:
    draft_check = check(2, position_with(2), is_rejection=True, draws_bonus=False)
    assert ItemOutcome(2, None, (RATE, RATE)) == outcome_of(draft_check)


def test_in_rejection_the_board_is_as_good_as_the_rate_says() -> None:
    draft_check = check(3, position_with(1), is_rejection=True)
    assert ItemOutcome(1, 50, (RATE,) * 3) == outcome_of(
        draft_check, ItemOutcome(0, 50, (0.0,) * 3)
    )


def test_a_failure_of_the_target_stays_one() -> None:
    failed = ItemOutcome(0, None, failure=ItemFailure.NON_FINITE_LOGITS)
    assert failed == outcome_of(check(2, position_with(2)), failed)
