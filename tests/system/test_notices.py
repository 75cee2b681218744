"""A board hears from its verifier why its streams wait, and tells its people."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import ClientWebSocketResponse

from edge_agent.generation.agent import Agent
from tests.support.ends.api_server import serving
from tests.support.ends.loopback import running_agent, running_verifier
from tests.support.ends.scripted import board, scripted_service
from tests.support.ends.waiting import eventually
from verifier.engine.device_terms import PAUSED, AllTerms, DeviceTerms
from verifier.engine.terms_in_force import TermsInForce

BOTH = ("kitchen", "garage")
KITCHEN_PAUSED = AllTerms({"kitchen": DeviceTerms(is_paused=True)})
GENERATE = {"type": "generate", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 120}


@asynccontextmanager
async def asking(agent: Agent) -> AsyncIterator[ClientWebSocketResponse]:
    """A chat socket of this agent, at which a long answer begins."""
    async with (
        serving(agent, hindrance=lambda: agent.hindrance) as url,
        aiohttp.ClientSession(url) as http,
        http.ws_connect("/v1/chat/socket") as socket,
    ):
        await socket.send_json(GENERATE)
        yield socket


async def until(socket: ClientWebSocketResponse, kind: str) -> dict[str, Any]:
    """The next message of this type."""
    while True:
        message: dict[str, Any] = await socket.receive_json(timeout=20)
        if message["type"] == kind:
            return message


def test_an_answer_that_is_paused_says_so_until_it_goes_on_and_others_hear_nothing() -> None:
    async def scenario() -> None:
        service = scripted_service(delay_seconds=lambda _: 0.02)
        terms = TermsInForce(service)
        async with (
            running_verifier(service, BOTH) as verifier,
            running_agent(verifier, board(0.1), "kitchen") as kitchen,
            running_agent(verifier, board(0.1), "garage") as garage,
            asking(kitchen) as socket,
        ):
            await until(socket, "text")
            terms.take_over(KITCHEN_PAUSED)
            told = await until(socket, "waiting")
            assert {"type": "waiting", "because": PAUSED} == told
            assert (PAUSED, "") == (kitchen.hindrance, garage.hindrance)
            terms.take_over(AllTerms())
            finished = await until(socket, "finished")
            assert ("length", "") == (finished["reason"], kitchen.hindrance)

    asyncio.run(scenario())


def test_a_board_that_connects_while_it_is_paused_hears_it_too() -> None:
    async def scenario() -> str:
        service = scripted_service()
        TermsInForce(service).take_over(KITCHEN_PAUSED)
        async with (
            running_verifier(service, BOTH) as verifier,
            running_agent(verifier, board(0.1), "kitchen") as kitchen,
        ):
            await eventually(lambda: kitchen.hindrance != "")
            return kitchen.hindrance

    assert PAUSED == asyncio.run(scenario())
