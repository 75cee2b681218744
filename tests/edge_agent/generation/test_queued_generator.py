"""Requests in line before a scripted verifier, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from edge_agent.generation.generation import (
    Finished,
    GenerationRequest,
    TextPiece,
    start_generation,
)
from edge_agent.generation.queued_generator import QueuedGenerator
from edge_agent.generation.scripted_generator import ScriptedGenerator
from edge_agent.generation.waiting_line import MAX_WAITING_CHARACTERS, LineLimits, Place
from shared.errors import TooManyStreams, VerifierAway
from shared.protocol.messages import ChatMessage
from tests.support.ends.virtual_time import run_in_virtual_time

TEXT = (TextPiece("a", "target"), TextPiece("b", "accepted"))
SECONDS_PER_ANSWER = 10.0


def scripted(max_streams: int | None = 2) -> ScriptedGenerator:
    seconds = SECONDS_PER_ANSWER / len(TEXT)
    return ScriptedGenerator(TEXT, seconds_per_piece=seconds, max_streams=max_streams)


async def answered_at(generator: QueuedGenerator, number: int = 0) -> float:
    """The loop's time at the end of an answer."""
    async with start_generation(generator, GenerationRequest(seed=number)) as events:
        assert [*TEXT] == [event async for event in events if isinstance(event, TextPiece)]
    return asyncio.get_running_loop().time()


def test_as_many_run_as_the_verifier_takes_and_the_others_follow_in_order() -> None:
    async def scenario() -> None:
        verifier = scripted(max_streams=2)
        generator = QueuedGenerator(verifier, LineLimits())
        times = await asyncio.gather(*(answered_at(generator, i) for i in range(6)))
        assert [10, 10, 20, 20, 30, 30] == times
        assert [*range(6)] == [request.seed for request in verifier.requests]
        assert 2 == verifier.most_running

    run_in_virtual_time(scenario())


def test_beyond_the_line_a_request_is_told_when_to_come_back() -> None:
    async def scenario() -> None:
        generator = QueuedGenerator(scripted(max_streams=2), LineLimits(max_requests=2))
        asked = (answered_at(generator) for _ in range(5))
        *answers, refused = await asyncio.gather(*asked, return_exceptions=True)
        assert [10, 10, 20, 20] == answers
        assert isinstance(refused, TooManyStreams)
        assert "2 requests wait for a place already (api.max_queued_requests = 2)" == str(refused)
        asked = (answered_at(generator) for _ in range(5))
        *_, refused = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(refused, TooManyStreams)
        assert SECONDS_PER_ANSWER / 2 == refused.retry_after_seconds

    run_in_virtual_time(scenario())


def test_a_request_that_waits_has_a_place_and_soon_an_estimate() -> None:
    async def scenario() -> None:
        generator = QueuedGenerator(scripted(max_streams=2), LineLimits())

        async def ask(name: int) -> None:
            async with start_generation(generator, GenerationRequest(stream_id=name)) as events:
                async for _ in events:
                    pass

        asked = [asyncio.create_task(ask(name)) for name in range(7)]
        await asyncio.sleep(1)
        places = [generator.place_of(name) for name in (0, 2, 4, 99)]
        assert [None, Place(0, None), Place(2, None), None] == places
        await asyncio.sleep(10)
        assert [None, Place(0, 5), Place(2, 15)] == [generator.place_of(i) for i in (2, 4, 6)]
        await asyncio.gather(*asked)
        assert generator.place_of(6) is None

    run_in_virtual_time(scenario())


def test_prompts_that_wait_are_bounded_together() -> None:
    async def scenario() -> None:
        generator = QueuedGenerator(scripted(max_streams=1), LineLimits())
        turn = ChatMessage("user", "x" * (MAX_WAITING_CHARACTERS // 2))

        async def ask() -> None:
            request = GenerationRequest(messages=(turn,))
            async with start_generation(generator, request) as events:
                async for _ in events:
                    pass

        outcomes = await asyncio.gather(*(ask() for _ in range(4)), return_exceptions=True)
        assert [None, None, None] == outcomes[:3]
        assert "too long for another one" in str(outcomes[3])

    run_in_virtual_time(scenario())


def test_a_request_waits_no_longer_than_it_may() -> None:
    async def scenario() -> None:
        generator = QueuedGenerator(scripted(max_streams=1), LineLimits(seconds=12.0))
        asked = (answered_at(generator) for _ in range(3))
        *answers, late = await asyncio.gather(*asked, return_exceptions=True)
        assert ([10, 20], 20) == (answers, asyncio.get_running_loop().time())
        assert "no place was free within 12 s (api.queue_timeout)" == str(late)
        assert 30 == await answered_at(generator)

    run_in_virtual_time(scenario())


def test_who_leaves_the_line_takes_no_place() -> None:
    async def scenario() -> None:
        verifier = scripted(max_streams=1)
        generator = QueuedGenerator(verifier, LineLimits())
        first, leaves, last = (asyncio.create_task(answered_at(generator, i)) for i in range(3))
        await asyncio.sleep(1)
        leaves.cancel()
        assert (10, 20) == (await first, await last)
        assert [0, 2] == [request.seed for request in verifier.requests]

    run_in_virtual_time(scenario())


def test_a_place_that_is_given_to_one_that_leaves_is_passed_on() -> None:
    async def scenario() -> None:
        verifier = scripted(max_streams=1)
        generator = QueuedGenerator(verifier, LineLimits())
        first, leaves, last = (asyncio.create_task(answered_at(generator, i)) for i in range(3))
        await asyncio.sleep(0)
        await first  # the second one has its place now, and has not yet run
        leaves.cancel()
        assert 20 == await last
        assert [leaves] == [task for task in (first, leaves, last) if task.cancelled()]

    run_in_virtual_time(scenario())


class Forgetful(ScriptedGenerator):
    """Its verifier counts streams of a link before this one, for a while."""

    seconds = 3.5

    async def generate(self, request: GenerationRequest) -> AsyncIterator[TextPiece | Finished]:
        if asyncio.get_running_loop().time() < self.seconds:
            raise TooManyStreams("the device has 2 streams already")
        async for event in super().generate(request):
            yield event


def test_a_place_that_the_verifier_refuses_is_tried_again_in_order() -> None:
    async def scenario() -> None:
        verifier = Forgetful(TEXT, seconds_per_piece=5, max_streams=2)
        generator = QueuedGenerator(verifier, LineLimits())
        times = await asyncio.gather(*(answered_at(generator, i) for i in range(3)))
        assert [14, 14, 24] == times
        assert [0, 1, 2] == sorted(request.seed or 0 for request in verifier.requests)

    run_in_virtual_time(scenario())


def test_a_verifier_that_refuses_for_too_long_is_a_refusal() -> None:
    async def scenario() -> None:
        verifier = Forgetful(TEXT, max_streams=2)
        generator = QueuedGenerator(verifier, LineLimits(seconds=2.0))
        with pytest.raises(TooManyStreams):
            await answered_at(generator)

    run_in_virtual_time(scenario())


def test_a_verifier_that_takes_more_than_before_is_noticed() -> None:
    async def scenario() -> None:
        verifier = scripted(max_streams=1)
        generator = QueuedGenerator(verifier, LineLimits())
        asked = [asyncio.create_task(answered_at(generator)) for _ in range(3)]
        await asyncio.sleep(0.5)
        verifier.max_streams = 3
        assert [10, 11, 11] == [await task for task in asked]

    run_in_virtual_time(scenario())


def test_without_a_verifier_a_request_learns_so_at_once() -> None:
    async def scenario() -> None:
        generator = QueuedGenerator(ScriptedGenerator([VerifierAway("away")]), LineLimits())
        with pytest.raises(VerifierAway):
            await answered_at(generator)
        assert 0 == asyncio.get_running_loop().time()

    run_in_virtual_time(scenario())


def test_what_was_begun_before_a_restart_stands_in_line_too() -> None:
    async def scenario() -> None:
        verifier = scripted(max_streams=1)
        generator = QueuedGenerator(verifier, LineLimits())
        first = asyncio.create_task(answered_at(generator))
        await asyncio.sleep(0)
        assert 3 == len([event async for event in generator.resume(5)])
        assert (10, 20) == (await first, asyncio.get_running_loop().time())

    run_in_virtual_time(scenario())
