"""AWC as a policy of the verifier: two modes by hysteresis, within budgets and caps."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.speculation.goodput import FloatArray
from tests.support.ends.shares import Share, outlook_of
from tests.verifier.policies.test_awc import constant
from verifier.policies import AwcPolicy, BudgetLimits, LengthPlan, LiveDrafts, policy_named
from verifier.policies.awc import MAX_WINDOW

LIMITS = BudgetLimits(max_round_tokens=1024, budget_tokens=None, slowdown_limit=0.05)
LINE: FloatArray = 0.040 + 0.0002 * np.arange(600.0)
SHARES = st.builds(
    lambda rate, goodput, max_length, drafting, trip: Share(
        rate=rate,
        goodput=goodput,
        max_length=max_length,
        draft_token_seconds=drafting,
        round_trip_seconds=trip,
    ),
    st.floats(0.01, 0.99),
    st.floats(0.01, 20.0),
    st.integers(0, 20),
    st.sampled_from([0.0, 0.005, 0.5]),
    st.sampled_from([0.0, 0.02, 1.0]),
)


def always(window: float) -> AwcPolicy:
    """Networks that say this whatever they see."""
    return AwcPolicy(constant(window), constant(window))


def plans(
    policy: AwcPolicy,
    streams: list[Share],
    num_plans: int,
    limits: BudgetLimits = LIMITS,
    line: FloatArray = LINE,
) -> list[LengthPlan]:
    """One after the other, each with what the one before kept."""
    made: list[LengthPlan] = []
    outlook = outlook_of(streams, line)
    for _ in range(num_plans):
        made.append(policy.plan(outlook, limits))
        memories = made[-1].memories
        kept = msgspec.structs.replace(outlook.streams, memories=memories)
        outlook = outlook._replace(streams=kept)
    return made


def test_the_verifier_finds_it_by_name_with_the_weights_that_ship() -> None:
    policy = policy_named("awc")
    assert isinstance(policy, AwcPolicy)
    good = Share(rate=0.95, goodput=4.0, draft_token_seconds=0.002)
    assert plans(policy, [good], 30)[-1].lengths[0] >= 4
    bad = Share(rate=0.2, goodput=1.0, draft_token_seconds=0.02)
    dear = 0.100 + 0.002 * np.arange(2000.0)  # of 50 streams one token each doubles the round
    assert [0] * 50 == plans(policy, [bad] * 50, 30, line=dear)[-1].lengths.tolist()


def test_two_low_windows_in_a_row_fuse_a_stream_and_two_high_ones_bring_it_back() -> None:
    outlook = outlook_of([Share()], LINE)
    seen = []
    for raw in [-5.0] * 8 + [12.0] * 3:
        made = always(raw).plan(outlook, LIMITS)
        streams = msgspec.structs.replace(outlook.streams, memories=made.memories)
        outlook = outlook._replace(streams=streams)
        seen.append(int(made.lengths[0]))
    assert 0 == seen[7]
    assert [1, 0] == seen[seen.index(1) :][:2]
    assert [0, 8] == seen[8:10]


def test_a_stream_that_waits_is_judged_by_weights_that_were_learnt_from_such() -> None:
    policy = AwcPolicy(constant(9.0), constant(-5.0))
    made = plans(policy, [Share(), Share(waits=True)], 12)[-1]
    assert [9, 0] == made.lengths.tolist()


def test_what_is_kept_of_a_board_that_cannot_draft_does_not_move() -> None:
    here, away = plans(always(-5.0), [Share(), Share(max_length=0)], 6)[-1].lengths
    assert (0, 0) == (here, away)
    memories = plans(always(-5.0), [Share(), Share(max_length=0)], 6)[-1].memories
    assert memories is not None
    assert [0.0, 0.0, 0.0] == memories[1].tolist()
    assert 1.0 == memories[0][1]


@given(st.lists(SHARES, max_size=12), st.integers(0, 60))
def test_budgets_and_caps_hold(streams: list[Share], budget_tokens: int) -> None:
    limits = msgspec.structs.replace(LIMITS, budget_tokens=budget_tokens)
    made = plans(always(9.0), streams, 3, limits)[-1]
    lengths = made.lengths.tolist()
    assert sum(lengths) <= made.budget_tokens <= budget_tokens
    assert all(
        0 <= x <= min(s.max_length, MAX_WINDOW) for x, s in zip(lengths, streams, strict=True)
    )
    assert made.depths is not None
    assert all(
        (depth > length) == (length > 0) for depth, length in zip(made.depths, lengths, strict=True)
    )


def test_a_board_far_away_drafts_further_ahead() -> None:
    near, far = (Share(rate=0.9, round_trip_seconds=seconds) for seconds in (0.005, 0.3))
    depths = plans(always(6.0), [near, far], 5)[-1].depths
    assert depths is not None
    assert depths[1] > depths[0] > 6


@pytest.mark.parametrize(("is_whole", "expected"), [(False, [3, 0]), (True, [9, 2])])
def test_a_round_tests_the_window_or_a_chunk_whole(is_whole: bool, expected: list[int]) -> None:
    live = LiveDrafts([9, 2], [3, 0], [1.0, 1.0], [is_whole] * 2, budget=20.0, num_room=20)
    policy = always(3.0)
    assert expected == list(policy.choose(live, lambda: outlook_of([], LINE)))
