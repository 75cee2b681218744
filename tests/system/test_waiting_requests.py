"""More clients than the verifier takes of one board: all are answered, and each as if alone."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

from edge_agent.api.app import serve
from edge_agent.config import ApiSection
from edge_agent.generation.generation import GenerationRequest
from edge_agent.startup import make_app
from shared.daemon.http_server import listen
from shared.protocol.messages import ChatMessage
from shared.speculation.sampling import GREEDY
from tests.support.ends.loopback import running_agent, running_verifier
from tests.support.ends.scripted import board, scripted_service, target_text

MAX_STREAMS = 3
NUM_CLIENTS = 16
NUM_TOKENS = 24


def request_of(number: int) -> GenerationRequest:
    turn = ChatMessage("user", f"question {number}")
    return GenerationRequest(messages=(turn,), sampling=GREEDY, seed=number, max_tokens=NUM_TOKENS)


async def ask(http: aiohttp.ClientSession, number: int) -> tuple[int, str]:
    """In one dialect or another."""
    turns = [{"role": "user", "content": f"question {number}"}]
    sampling = {"temperature": 0, "seed": number}
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/v1/chat/completions", {"messages": turns, "max_tokens": NUM_TOKENS, **sampling}),
        ("/v1/messages", {"messages": turns, "max_tokens": NUM_TOKENS, **sampling}),
        ("/v1/responses", {"input": turns, "max_output_tokens": NUM_TOKENS, **sampling}),
        ("/api/chat", {"messages": turns, "options": {"num_predict": NUM_TOKENS, **sampling}}),
    ]
    path, body = bodies[number % len(bodies)]
    async with http.post(path, json={**body, "stream": False}) as response:
        answer = await response.json()
        match path:
            case "/v1/chat/completions":
                text = answer["choices"][0]["message"]["content"]
            case "/v1/messages":
                text = answer["content"][0]["text"]
            case "/v1/responses":
                text = answer["output"][0]["content"][0]["text"]
            case _:
                text = answer["message"]["content"]
        return response.status, text


def test_every_client_is_answered_with_the_targets_own_text_in_every_dialect() -> None:
    async def scenario() -> None:
        service = scripted_service(max_streams_per_device=MAX_STREAMS)
        async with running_verifier(service) as verifier, running_agent(verifier, board()) as agent:
            assert MAX_STREAMS == agent.max_streams
            sockets = listen("127.0.0.1", 0)
            server = await serve(make_app(agent, ApiSection(), None), sockets)
            url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
            connector = aiohttp.TCPConnector(limit=0)
            async with aiohttp.ClientSession(url, connector=connector) as http:
                answers = await asyncio.gather(*(ask(http, i) for i in range(NUM_CLIENTS)))
            await server.stop()
        expected = [(200, target_text(request_of(i))) for i in range(NUM_CLIENTS)]
        assert expected == answers

    asyncio.run(scenario())
