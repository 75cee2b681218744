"""Which draft tokens are right is drawn once for each position of a text."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from random import Random

import msgspec
import pytest

from tests.support.ends.scenarios import make_scenario
from verifier.sim.acceptance import (
    Acceptance,
    CorrelatedAcceptance,
    IndependentAcceptance,
    ReplayedAcceptance,
)
from verifier.sim.fleet import acceptance_of, fleet_of
from verifier.sim.scenario import BoardGroup

NUM_TOKENS = 20_000


def bits(acceptance: Acceptance, depth: int = 0, now: float = 0.0) -> list[bool]:
    return [acceptance.is_right(position, depth, now) for position in range(NUM_TOKENS)]


def share(values: list[bool]) -> float:
    return sum(values) / len(values)


def test_a_position_is_what_it_was_in_whatever_order_it_is_asked() -> None:
    acceptance = IndependentAcceptance((0.5,), (), Random(1))
    backwards = [acceptance.is_right(position, 0, 0.0) for position in reversed(range(100))]
    again = IndependentAcceptance((0.5,), (), Random(1))
    assert backwards[::-1] == [again.is_right(position, 0, 0.0) for position in range(100)]


def test_rates_hang_on_depth_and_on_time() -> None:
    acceptance = IndependentAcceptance((0.9, 0.4), ((10.0, 0.2),), Random(2))
    found = [share(bits(acceptance, depth, now)) for depth, now in ((0, 0.0), (7, 0.0), (0, 10.0))]
    assert pytest.approx([0.9, 0.4, 0.2], abs=0.02) == found


def test_a_model_that_stays_sure_is_right_in_runs() -> None:
    rates, shares = (0.3, 1.0), (1.0, 1.0)
    runs = bits(CorrelatedAcceptance(rates, shares, 0.9, Random(3)))
    single = bits(CorrelatedAcceptance(rates, shares, 0.0, Random(3)))
    assert pytest.approx(0.65, abs=0.03) == share(runs)
    after_right = [share([b for a, b in pairwise(v) if a]) for v in (runs, single)]
    assert after_right[0] > 0.75 > 0.68 > after_right[1]


def test_a_trace_is_played_in_its_order_over_and_over() -> None:
    played = bits(ReplayedAcceptance((True, True, False), bytes(3), 4))
    assert played[: NUM_TOKENS // 3 * 3 - 3] == played[3 : NUM_TOKENS // 3 * 3]
    assert [True, False, True] == played[:3]


def test_a_model_that_is_surer_is_right_more_often() -> None:
    acceptance = CorrelatedAcceptance((0.3, 0.9), (1.0, 1.0), 0.5, Random(5))
    told = [acceptance.confidence(position) for position in range(NUM_TOKENS)]
    right = bits(acceptance)
    low, high = sorted(set(told))
    of_low = [is_right for is_right, byte in zip(right, told, strict=True) if byte == low]
    of_high = [is_right for is_right, byte in zip(right, told, strict=True) if byte == high]
    assert pytest.approx([0.3, 0.9], abs=0.03) == [share(of_low), share(of_high)]


def test_a_trace_tells_of_each_position_how_sure_the_board_was() -> None:
    acceptance = ReplayedAcceptance((True, False), bytes([200, 20]), 6)
    told = {acceptance.confidence(i): acceptance.is_right(i, 0, 0.0) for i in range(6)}
    assert {200: True, 20: False} == told


def test_a_boards_streams_go_through_its_trace_in_turn() -> None:
    path = Path("trace.json")
    group = BoardGroup(trace=path, output_tokens=4)
    scenario = msgspec.structs.replace(
        make_scenario(group),
        traces={path: (True, False, False, True, True)},
        trace_confidences={path: bytes(5)},
    )
    board = fleet_of(scenario)[0]
    first, second = (acceptance_of(scenario, board, number) for number in (0, 1))
    assert bits(first)[4:9] == bits(second)[:5]


def test_where_all_tokens_are_alike_nothing_is_told() -> None:
    assert 0 == IndependentAcceptance((0.5,), (), Random(1)).confidence(3)
