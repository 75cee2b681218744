"""A load test: many boards in one process against a real verifier, over one websocket each.

Everything but the draft model is what a board really runs: link, streams, codec.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import aiohttp

from edge_agent.draft_model.drafter import Drafter
from edge_agent.fleet.board import FleetBoard
from edge_agent.fleet.draft_source import Guess
from edge_agent.fleet.tally import FleetReport, FleetTally
from edge_agent.fleet.workload import FleetLoad
from edge_agent.link.keeper import LinkEnd
from edge_agent.link.link import make_hello

WATCH_SECONDS = 1.0

Watch = Callable[[FleetTally, float], None]  # every second, with the time


class Fleet:
    """Boards with one token each, all with the same load."""

    def __init__(
        self,
        url: str,
        tokens: Sequence[str],
        drafter: Drafter,  # its vocabulary alone is used
        guess: Guess,
        load: FleetLoad,
    ) -> None:
        self._url = url
        self._tokens = tokens
        self._drafter = drafter
        self._guess = guess
        self._load = load
        self._hello = make_hello(
            drafter,
            context_tokens=load.context_tokens,
            draft_token_seconds=1 / load.draft_tokens_per_second,
            max_streams=load.num_streams,
        )

    async def run(
        self, ramp_up_seconds: float, seconds: float, stop: asyncio.Event, watch: Watch
    ) -> FleetReport:
        """Connect the boards one after the other, then measure until `stop` or for `seconds`.

        Raises:
            LinkError, RemoteProtocolError: the very first board cannot connect; the others would
                not either.
            ExceptionGroup: a bug in a board.
        """
        tally = FleetTally(len(self._tokens), time.monotonic())
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            asyncio.TaskGroup() as tasks,
        ):
            watching = tasks.create_task(_watch(tally, watch), name="fleet-watch")
            boards: list[asyncio.Task[None]] = []
            refusal = await self._ramp_up(tally, session, tasks, boards, ramp_up_seconds, stop)
            if refusal is None and not stop.is_set():
                tally.restart(time.monotonic())
                await _wait_until(stop, seconds, boards)
            report = tally.report(time.monotonic())
            for task in (*boards, watching):
                task.cancel()
        if refusal is not None:
            raise refusal
        return report

    async def _ramp_up(
        self,
        tally: FleetTally,
        session: aiohttp.ClientSession,
        tasks: asyncio.TaskGroup,
        boards: list[asyncio.Task[None]],
        ramp_up_seconds: float,
        stop: asyncio.Event,
    ) -> LinkEnd | None:
        """Start one board after the other; why the first one cannot connect, if it cannot."""
        started_at = time.monotonic()
        for number, token in enumerate(self._tokens):
            due_at = started_at + ramp_up_seconds * number / len(self._tokens)
            if await _is_set_within(stop, due_at - time.monotonic()):
                return None
            board = FleetBoard(
                number, token, self._hello, self._drafter, self._guess, self._load, tally
            )
            running = board.run(session, self._url)
            boards.append(tasks.create_task(running, name=f"board-{number}"))
            if number == 0 and (refusal := await board.first_outcome) is not None:
                return refusal
        return None


async def _watch(tally: FleetTally, watch: Watch) -> None:
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        watch(tally, time.monotonic())


async def _wait_until(
    stop: asyncio.Event, seconds: float, boards: list[asyncio.Task[None]]
) -> None:
    """Wait until it is time, `stop` is set, or no board is left."""
    stopping = asyncio.create_task(stop.wait(), name="fleet-stop")
    # Waiting for tasks, unlike gathering them, leaves them alone when it is cancelled.
    leaving = asyncio.create_task(asyncio.wait(boards), name="fleet-over")
    ends: tuple[asyncio.Task[object], ...] = (stopping, leaving)
    try:
        await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in ends:
            task.cancel()
        await asyncio.wait(ends)


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    if seconds > 0:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()
    return event.is_set()
