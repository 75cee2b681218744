"""What a draft token costs, and what streams would get without any."""

from __future__ import annotations

import pytest

from tests.support.ends.planning import add, make_planner, make_stream, play
from verifier.scheduling.draft_plan import NO_PLAN
from verifier.scheduling.draft_trial import Arm
from verifier.scheduling.measured_payoff import MeasuredPayoff
from verifier.scheduling.round_facts import RoundFacts
from verifier.scheduling.token_price import alone_tokens_per_second, token_price_seconds


def test_before_the_first_plan_there_is_no_price_and_nothing_to_compare_with() -> None:
    assert 0.0 == token_price_seconds(NO_PLAN)
    assert None is alone_tokens_per_second(NO_PLAN, MeasuredPayoff())


def test_every_device_waits_for_a_token() -> None:
    planner = make_planner()
    add(planner, make_stream(1, device="a"), make_stream(2, device="b"), make_stream(3, device="b"))
    play(planner)
    plan = planner.draft_plan
    assert plan.token_seconds > 0.0
    assert pytest.approx(2 * plan.token_seconds) == token_price_seconds(plan)


def test_alone_a_stream_gets_a_token_in_each_round_as_the_curve_has_it() -> None:
    planner = make_planner()
    add(planner, make_stream())
    play(planner)
    alone = alone_tokens_per_second(planner.draft_plan, planner.payoff)
    assert pytest.approx(1.0 / planner.draft_plan.round_seconds) == alone


def test_what_was_measured_counts_for_more() -> None:
    planner = make_planner()
    add(planner, make_stream())
    play(planner)
    devices = frozenset({"board"})
    while planner.payoff.drafts_over_none is None:
        drafting = devices if planner.payoff.arm is Arm.DRAFTS else frozenset[str]()
        num_tokens = 1 + len(drafting)
        planner.payoff.observe(
            RoundFacts(0.04, num_tokens, 1, devices, drafting, False, True, True)
        )
    assert pytest.approx(25.0) == alone_tokens_per_second(planner.draft_plan, planner.payoff)
