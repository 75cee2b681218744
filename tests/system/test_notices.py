"""A board hears from its verifier why its streams wait, and tells its people."""

from __future__ import annotations

import asyncio

import aiohttp

from edge_agent.generation.agent import Agent
from edge_agent.generation.generation import GenerationRequest
from edge_agent.generation.queued_generator import QueuedGenerator
from edge_agent.generation.waiting_line import LineLimits
from shared.speculation.sampling import GREEDY
from tests.support.ends.api_server import serving
from tests.support.ends.loopback import chat, generate, running_agent, running_verifier
from tests.support.ends.scripted import board, scripted_service
from tests.support.ends.waiting import eventually
from verifier.engine.device_terms import PAUSED, AllTerms, DeviceTerms
from verifier.engine.terms_in_force import TermsInForce

BOTH = ("kitchen", "garage")
KITCHEN_PAUSED = AllTerms({"kitchen": DeviceTerms(is_paused=True)})
GENERATE = {"type": "generate", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}


def test_a_paused_board_says_so_until_it_goes_on_and_others_hear_nothing() -> None:
    async def scenario() -> None:
        service = scripted_service()
        terms = TermsInForce(service)
        async with (
            running_verifier(service, BOTH) as verifier,
            running_agent(verifier, board(0.1), "kitchen") as kitchen,
            running_agent(verifier, board(0.1), "garage") as garage,
        ):
            terms.take_over(KITCHEN_PAUSED)
            await eventually(lambda: kitchen.hindrance == PAUSED)
            request = GenerationRequest(messages=chat("hi"), sampling=GREEDY, max_tokens=4)
            await generate(garage, request)
            assert "" == garage.hindrance
            told = await _told_on_the_socket(kitchen, terms)
            assert [("waiting", PAUSED), ("finished", None)] == [told[0], told[-1]]
            assert "" == kitchen.hindrance

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


async def _told_on_the_socket(agent: Agent, terms: TermsInForce) -> list[tuple[str, str | None]]:
    """All that is no text, and why; the board goes on once it has said that it waits."""
    queued = QueuedGenerator(agent, LineLimits())
    told: list[tuple[str, str | None]] = []
    async with (
        serving(queued, place_of=queued.place_of, hindrance=lambda: agent.hindrance) as url,
        aiohttp.ClientSession(url) as http,
        http.ws_connect("/v1/chat/socket") as socket,
    ):
        await socket.send_json(GENERATE)
        while not told or told[-1][0] != "finished":
            message = await socket.receive_json(timeout=20)
            if message["type"] == "waiting":
                terms.take_over(AllTerms())
                told.append(("waiting", message.get("because", "")))
            elif message["type"] == "finished":
                told.append(("finished", None))
    return told
