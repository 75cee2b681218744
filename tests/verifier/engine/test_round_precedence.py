"""Messages wait for a round that is over, for that one alone, and never for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.support.ends.scripted import scripted_service
from verifier.engine.round_precedence import RoundPrecedence


def went_by(*steps: Callable[[RoundPrecedence], None]) -> list[int]:
    """How many of three messages had gone on after each step, a few turns of the loop later."""

    async def scenario() -> list[int]:
        precedence, num_gone = RoundPrecedence(), 0

        async def message() -> None:
            nonlocal num_gone
            await precedence.give_way()
            num_gone += 1

        counts = []
        async with asyncio.TaskGroup() as group:
            steps[0](precedence)
            for _ in range(3):
                group.create_task(message())
            for step in (lambda _: None, *steps[1:]):
                step(precedence)
                for _ in range(3):
                    await asyncio.sleep(0)
                counts.append(num_gone)
        return counts

    return asyncio.run(scenario())


def nothing(_: RoundPrecedence) -> None:
    """No round is over."""


def test_no_message_waits_while_no_round_is_over() -> None:
    assert [3] == went_by(nothing)


def test_messages_wait_until_the_next_round_runs() -> None:
    assert [0, 3] == went_by(RoundPrecedence.claim, RoundPrecedence.give_up)


def test_messages_wait_for_one_round_however_fast_the_next_one_is() -> None:
    def give_up_and_claim(precedence: RoundPrecedence) -> None:
        precedence.give_up()
        precedence.claim()

    assert [0, 3] == went_by(RoundPrecedence.claim, give_up_and_claim)


def test_an_engine_that_has_stopped_holds_no_message_up() -> None:
    async def scenario() -> None:
        service = scripted_service()
        running = asyncio.create_task(service.run())
        await asyncio.sleep(0)
        service.precedence.claim()
        service.stop()
        await running
        async with asyncio.timeout(1):
            await service.precedence.give_way()

    asyncio.run(scenario())


def test_what_is_postponed_is_done_once_behind_the_round_and_nothing_else_is() -> None:
    async def scenario() -> list[str]:
        precedence, done = RoundPrecedence(), list[str]()
        assert not precedence.postpones(lambda: done.append("never"))
        precedence.claim()
        assert precedence.postpones(lambda: done.append("once"))
        precedence.give_up()
        assert [] == done  # the next round goes before it
        await asyncio.sleep(0)
        precedence.claim()
        precedence.give_up()
        await asyncio.sleep(0)
        return done

    assert ["once"] == asyncio.run(scenario())


class _ClaimedBetweenLooks(RoundPrecedence):
    """The engine's thread claims it right after the first look."""

    num_looks = 0

    @property
    def _is_claimed(self) -> bool:
        self.num_looks += 1
        return self.num_looks > 1

    @_is_claimed.setter
    def _is_claimed(self, value: bool) -> None:
        """Asked for by the constructor."""


def test_a_claim_at_the_same_moment_leaves_no_message_behind() -> None:
    """Whoever is told to wait is called; this was found by a board that heard nothing any more."""
    precedence, calls = _ClaimedBetweenLooks(), list[str]()
    is_postponed = precedence.postpones(lambda: calls.append("made"))
    asyncio.run(_give_up(precedence))
    assert is_postponed is (["made"] == calls)


async def _give_up(precedence: RoundPrecedence) -> None:
    precedence.give_up()
    await asyncio.sleep(0)
