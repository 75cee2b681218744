"""Two boards with one token: they do not take the connection from each other for ever."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from shared.protocol.messages import Error, ErrorCode
from tests.support.ends.loopback import Verifier, running_verifier
from tests.support.ends.raw_board import RawBoard, hello_to, raw_board
from tests.support.ends.scripted import scripted_service
from tests.support.ends.waiting import eventually
from tests.support.messages.misbehaviour import still_works
from verifier.server.connection import TOKEN_IN_USE
from verifier.server.takeovers import MAX_TAKEOVERS

REFUSED = Error(ErrorCode.TOKEN_IN_USE, TOKEN_IN_USE)


async def refused(board: RawBoard, verifier: Verifier, instance_id: int) -> Error:
    await board.send(hello_to(verifier, instance_id))
    error = await board.error()
    await board.ended()
    return error


def test_after_a_few_takeovers_the_agent_that_is_connected_stays() -> None:
    async def run() -> None:
        service = scripted_service()
        async with running_verifier(service) as verifier:
            async with AsyncExitStack() as stack:
                for i in range(MAX_TAKEOVERS + 1):
                    board = raw_board(verifier, "board", instance_id=1 + i % 2)
                    last = await stack.enter_async_context(board)
                async with raw_board(verifier, "board", greets=False) as newcomer:
                    assert REFUSED == await refused(newcomer, verifier, 9)
                await still_works(last, channel=0)
            assert MAX_TAKEOVERS + 1 == service.devices["board"].epoch

    asyncio.run(run())


def test_the_same_agent_takes_over_from_its_own_half_open_link_whatever_happened_before() -> None:
    async def run() -> None:
        service = scripted_service()
        async with running_verifier(service) as verifier:
            device = service.device("board")
            for i in range(3 * MAX_TAKEOVERS):
                async with (
                    raw_board(verifier, "board", instance_id=7) as half_open,
                    raw_board(verifier, "board", instance_id=7) as back,
                ):
                    assert ErrorCode.REPLACED == (await half_open.error()).code
                    await still_works(back, channel=0)
                await eventually(lambda: device.outbox is None)
                assert 2 * (i + 1) == device.epoch

    asyncio.run(run())
