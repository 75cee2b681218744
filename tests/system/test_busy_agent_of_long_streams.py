"""However long an agent's streams are, a lost link or a restart holds none of its callbacks up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import msgspec
import pytest

import edge_agent.link.backoff
from edge_agent.generation.agent import Agent
from edge_agent.generation.generation import Finished, GenerationRequest
from shared.speculation.sampling import GREEDY
from tests.support.ends.long_streams import CONTEXT_TOKENS, NUM_STREAMS, LongStreams, long_streams
from tests.support.ends.loop_watch import LIMIT_SECONDS, LoopWatch, least_of_a_few
from tests.support.ends.loopback import DRAFT_SETTINGS, running_agent
from tests.support.ends.raw_board import raw_board
from tests.support.ends.scripted import board
from tests.support.ends.waiting import eventually

LOOKS_UP = msgspec.structs.replace(DRAFT_SETTINGS, ngram_tokens=4)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_agent.link.backoff, "FIRST_DELAY_SECONDS", 0.02)


async def generate(agent: Agent, number: int, begun: asyncio.Semaphore) -> int:
    """A long stream to its end; its output tokens."""
    asked = GenerationRequest(
        prompt_ids=(40 + number,) * (CONTEXT_TOKENS - 40),
        sampling=GREEDY,
        max_tokens=30,
        stream_id=number,
    )
    async with aclosing(agent.generate(asked)) as events:
        async for event in events:
            if isinstance(event, Finished):
                return len(event.token_ids)
            begun.release()
    raise AssertionError("it never ended")


async def lose_the_link(streams: LongStreams, watch: LoopWatch) -> None:
    begun = asyncio.Semaphore(0)
    drafter = board(num_slots=NUM_STREAMS)
    async with (
        running_agent(streams.verifier, drafter, settings=LOOKS_UP) as agent,
        asyncio.TaskGroup() as group,
    ):
        answers = [group.create_task(generate(agent, i, begun)) for i in range(NUM_STREAMS)]
        planner = streams.verifier.service.planner
        await eventually(lambda: len(planner.queue) + len(planner.streams) == NUM_STREAMS)
        await eventually(lambda: not any(s.is_arriving for s in planner.queue.values()))
        streams.let_go(3)
        for _ in range(NUM_STREAMS):
            await begun.acquire()
        watch.restart()
        streams.cut_off()
        device = streams.verifier.service.device("board")
        await eventually(lambda: device.epoch == 2)
        await eventually(lambda: not device.kept.num_open)
        streams.let_go()
    assert [30] * NUM_STREAMS == [answer.result() for answer in answers]


async def resumed(agent: Agent, number: int) -> int:
    """A stream of an agent that is not there any more, read again; its output tokens."""
    async with aclosing(agent.resume(number)) as events:
        async for event in events:
            if isinstance(event, Finished):
                return len(event.token_ids)
    raise AssertionError("it never ended")


async def start_again(streams: LongStreams, watch: LoopWatch) -> None:
    num_committed = CONTEXT_TOKENS // 2
    async with raw_board(streams.verifier, "board") as before:
        await streams.open(before, num_committed=num_committed, num_output=2)
    drafter = board(num_slots=NUM_STREAMS)
    async with (
        running_agent(streams.verifier, drafter, settings=LOOKS_UP) as agent,
        asyncio.TaskGroup() as group,
    ):
        watch.restart()
        answers = [group.create_task(resumed(agent, i)) for i in range(NUM_STREAMS)]
        device = streams.verifier.service.device("board")
        await eventually(lambda: not device.kept.num_open)
        streams.let_go()
    assert [num_committed + 2] * NUM_STREAMS == [answer.result() for answer in answers]


@pytest.mark.parametrize("happen", [lose_the_link, start_again])
def test_long_streams_hold_no_callback_of_their_agent_up(
    happen: Callable[[LongStreams, LoopWatch], Awaitable[None]],
) -> None:
    async def scenario(watch: LoopWatch) -> None:
        async with long_streams() as streams:
            await happen(streams, watch)

    seconds, what = least_of_a_few(scenario)
    assert seconds < LIMIT_SECONDS, what
