"""Messages that arrive later, in their order."""

from __future__ import annotations

import asyncio

from edge_agent.fleet.delay_lane import DelayLane
from tests.support.ends.waiting import eventually


def test_without_a_delay_an_item_arrives_at_once() -> None:
    arrived: list[int] = []
    DelayLane(0.0, arrived.append).put(1)
    assert [1] == arrived


def test_items_arrive_late_and_in_their_order() -> None:
    async def run() -> tuple[list[int], list[int], float]:
        arrived: list[int] = []
        lane = DelayLane(0.01, arrived.append)
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        for item in range(100):
            lane.put(item)
        at_once = list(arrived)
        await eventually(lambda: len(arrived) == 100)
        return at_once, arrived, loop.time() - started_at

    at_once, arrived, seconds = asyncio.run(run())
    assert [] == at_once
    assert list(range(100)) == arrived
    assert seconds >= 0.01


def test_what_is_on_its_way_when_the_lane_closes_is_lost() -> None:
    async def run() -> list[int]:
        arrived: list[int] = []
        lost, kept = DelayLane(0.001, arrived.append), DelayLane(0.002, arrived.append)
        lost.put(1)
        kept.put(2)
        lost.close()
        await eventually(lambda: bool(arrived))
        return arrived

    assert [2] == asyncio.run(run())
