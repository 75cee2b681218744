"""The boards of a scenario, one by one: which value of each list a board has, and its texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import TypeVar

import msgspec

from verifier.sim.acceptance import (
    Acceptance,
    CorrelatedAcceptance,
    IndependentAcceptance,
    ReplayedAcceptance,
)
from verifier.sim.board import BoardSpec
from verifier.sim.link import LinkSpec
from verifier.sim.scenario import BoardGroup, Scenario, all_of

_Value = TypeVar("_Value")


class FleetBoard(msgspec.Struct, frozen=True):
    """One board of a scenario."""

    name: str
    group: BoardGroup
    spec: BoardSpec
    link: LinkSpec
    acceptance: float
    joins_at: float


def fleet_of(scenario: Scenario) -> list[FleetBoard]:
    """All boards, in the order of their groups."""
    return [
        board for name, group in scenario.boards.items() for board in _of(scenario, name, group)
    ]


def slos_of(scenario: Scenario) -> dict[str, float]:
    """Seconds a token that the streams of a board are promised, where its group says so."""
    return {
        board.name: 1e-3 * board.group.slo_milliseconds
        for board in fleet_of(scenario)
        if board.group.slo_milliseconds is not None
    }


def _of(scenario: Scenario, name: str, group: BoardGroup) -> Iterator[FleetBoard]:
    random = Random(f"{scenario.run.seed}-{name}")
    speeds = _dealt(group.speeds, group.count, random)
    rates = _dealt(all_of(group.acceptance), group.count, random)
    trips = _dealt(all_of(group.round_trip_milliseconds), group.count, random)
    for i in range(group.count):
        trip_seconds = 1e-3 * trips[i]
        yield FleetBoard(
            name=f"{name}-{i + 1}",
            group=group,
            spec=BoardSpec(
                token_seconds=1.0 / speeds[i],
                batch_growth=group.batch_growth,
                round_trip_seconds=trip_seconds,
                stalls=group.stalls,
                tells_confidence=group.tells_confidence,
            ),
            link=LinkSpec(
                one_way_seconds=trip_seconds / 2,
                jitter=group.jitter,
                loss=group.loss,
                resend_seconds=1e-3 * group.resend_milliseconds,
                bytes_per_second=125.0 * group.kilobits_per_second,
            ),
            acceptance=rates[i],
            joins_at=group.joins_at_seconds + random.uniform(0.0, group.join_spread_seconds),
        )


def acceptance_of(scenario: Scenario, board: FleetBoard, stream_number: int) -> Acceptance:
    """The texts of a board's next stream."""
    group = board.group
    if group.trace is not None:
        trace = scenario.traces[group.trace]
        first = Random(f"{scenario.run.seed}-{board.name}").randrange(len(trace))
        # Where the one before ended, so that all of a trace counts alike.
        start = first + stream_number * group.output_tokens
        return ReplayedAcceptance(trace, scenario.trace_confidences[group.trace], start)
    random = Random(f"{scenario.run.seed}-{board.name}-{stream_number}")
    if group.confidence_rates:
        rates, shares = group.confidence_rates, group.confidence_shares
        return CorrelatedAcceptance(rates, shares, group.confidence_persistence, random)
    changes = sorted((change.at_seconds, change.acceptance) for change in group.changes)
    by_depth = group.acceptance_by_position or (board.acceptance,)
    return IndependentAcceptance(by_depth, changes, random)


def _dealt(values: Sequence[_Value], count: int, random: Random) -> list[_Value]:
    """Each value as often as every other, to one, in an order of chance."""
    dealt: list[_Value] = []
    while len(dealt) < count:
        hand = list(values)
        random.shuffle(hand)
        dealt += hand
    return dealt[:count]
