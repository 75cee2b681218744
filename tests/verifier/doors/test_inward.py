"""What a door says gives way to a round that is over, once, and to the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from verifier.doors.inward import MOST_AT_ONCE, Inward
from verifier.doors.traffic import Entry
from verifier.engine.round_precedence import RoundPrecedence


class Scene:
    """An `Inward`, what it handed on, and whether batches may come."""

    def __init__(self) -> None:
        self.precedence = RoundPrecedence()
        self.handed_on: list[int] = []
        self.claims_at: set[int] = set()  # entries in the midst of which a round is over
        self.is_still: list[bool] = []
        self.inward = Inward(self._hand_on, self.precedence.postpones, self.is_still.append)

    def _hand_on(self, number: int, kind: int, amount: int, content: bytes) -> None:
        self.handed_on.append(number)
        if number in self.claims_at:
            self.precedence.claim()


def play(scene: Callable[[Scene], Awaitable[None]]) -> None:
    async def run() -> None:
        await scene(Scene())

    asyncio.run(run())


def batch(*numbers: int) -> list[Entry]:
    return [(number, 0, 0, b"") for number in numbers]


def test_a_batch_is_handed_on_before_take_returns() -> None:
    async def scene(played: Scene) -> None:
        played.inward.take(batch(1, 2))
        assert ([1, 2], []) == (played.handed_on, played.is_still)

    play(scene)


def test_a_round_that_is_over_goes_before_the_rest_of_a_batch() -> None:
    async def scene(played: Scene) -> None:
        played.claims_at = {1}
        played.inward.take(batch(1, 2))
        played.inward.take(batch(3))
        await asyncio.sleep(0)
        assert ([1], [True]) == (played.handed_on, played.is_still)
        played.precedence.give_up()
        assert [1] == played.handed_on
        await asyncio.sleep(0)
        assert ([1, 2, 3], [True, False]) == (played.handed_on, played.is_still)

    play(scene)


def test_what_has_waited_for_one_round_waits_for_no_other_however_short_they_are() -> None:
    async def scene(played: Scene) -> None:
        played.precedence.claim()
        played.inward.take(batch(1, 2, 3))
        played.precedence.give_up()
        played.precedence.claim()
        await asyncio.sleep(0)
        assert [1, 2, 3] == played.handed_on
        played.inward.take(batch(4))
        assert [1, 2, 3] == played.handed_on

    play(scene)


def test_a_long_batch_lets_the_event_loop_go_on() -> None:
    async def scene(played: Scene) -> None:
        numbers = range(2 * MOST_AT_ONCE + 1)
        played.inward.take(batch(*numbers))
        counts = []
        for _ in range(3):
            counts.append(len(played.handed_on))
            await asyncio.sleep(0)
        assert [MOST_AT_ONCE, 2 * MOST_AT_ONCE, 2 * MOST_AT_ONCE + 1] == counts
        assert ([True, False], list(numbers)) == (played.is_still, played.handed_on)

    play(scene)


def test_nothing_of_a_lost_door_is_handed_on() -> None:
    async def scene(played: Scene) -> None:
        played.precedence.claim()
        played.inward.take(batch(1))
        played.inward.clear()
        played.precedence.give_up()
        await asyncio.sleep(0)
        played.inward.take(batch(2))
        assert [2] == played.handed_on

    play(scene)
