"""What clients are told of their prompt's part in the verifier's cache is what the verifier found.

Everything is real but the target: the port, the link, the agent, its HTTP API and chat.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

import edge_agent.link.backoff
from edge_agent.chat.client import ChatClient
from edge_agent.chat.display import details
from edge_agent.generation.chat_messages import ChatFinished
from tests.support.chats.turns import turns
from tests.support.ends.api_server import serving
from tests.support.ends.loopback import (
    loopback,
    make_service,
    running_agent,
    running_verifier,
)
from tests.support.ends.scripted import TARGET, board, scripted_service
from tests.support.ends.waiting import eventually
from tests.support.network.chaos_proxy import ChaosProxy, local
from verifier.engine.service import VerifierService
from verifier.target.scripted_target import ScriptedTarget
from verifier.target.scripted_tokenizer import ScriptedTokenizer

BLOCK_TOKENS = 16  # of the scripted target
NUM_BLOCKS = 58  # for two streams to begin in, 29 and 28 blocks, but not for both to end in
QUESTION = "why is the sky as blue as it is, and the sea as green as it is? " * 3
OTHER_QUESTION = "and what of the grass, which is neither, on most days of the year? " * 3


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_agent.link.backoff, "FIRST_DELAY_SECONDS", 0.02)
    monkeypatch.setattr(edge_agent.link.backoff, "MAX_DELAY_SECONDS", 0.1)


async def ask(
    http: aiohttp.ClientSession, url: str, question: str = QUESTION, max_tokens: int = 20
) -> dict[str, Any]:
    """The API's whole answer."""
    body = {
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": max_tokens,
    }
    async with http.post(f"{url}/v1/chat/completions", json=body) as response:
        assert 200 == response.status
        answer: dict[str, Any] = await response.json()
        return answer


def cached_tokens(answer: dict[str, Any]) -> int:
    """Of the prompt, as OpenAI's clients read it."""
    cached: int = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
    return cached


def num_hits(service: VerifierService) -> int:
    """The verifier's own counter."""
    value = service.metrics.registry.get_sample_value("goodspeed_prefix_cache_hit_tokens_total")
    assert value is not None
    return int(value)


@asynccontextmanager
async def api_of(service: VerifierService) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    async with (
        loopback(service, [board()]) as (_, (agent,)),
        serving(agent) as url,
        aiohttp.ClientSession() as http,
    ):
        yield http, url


@asynccontextmanager
async def api_behind_a_proxy(
    service: VerifierService,
) -> AsyncIterator[tuple[aiohttp.ClientSession, str, ChaosProxy]]:
    async with (
        running_verifier(service) as verifier,
        ChaosProxy(local(verifier.port)) as proxy,
        running_agent(verifier, board(), url=proxy.url) as agent,
        serving(agent) as url,
        aiohttp.ClientSession() as http,
    ):
        yield http, url, proxy


def test_the_same_prompt_again_is_told_as_found_in_the_cache() -> None:
    service = scripted_service()

    async def ask_thrice() -> list[tuple[dict[str, Any], int]]:
        async with api_of(service) as (http, url):
            answers = []
            for _ in range(3):
                before = num_hits(service)
                answers.append((await ask(http, url), num_hits(service) - before))
            return answers

    (first, first_hits), *again = asyncio.run(ask_thrice())
    num_prompt = len(service.tokenizer.encode_chat(turns([("user", QUESTION)])))
    assert (0, 0) == (first_hits, cached_tokens(first))
    assert (0, num_prompt) == (first["timings"]["cache_n"], first["timings"]["prompt_n"])
    for answer, hits in again:
        timings = answer["timings"]
        assert hits == cached_tokens(answer) == timings["cache_n"]
        assert (num_prompt - 1) // BLOCK_TOKENS * BLOCK_TOKENS == hits > 0
        assert num_prompt == answer["usage"]["prompt_tokens"] == hits + timings["prompt_n"]
        speed = 1000 * timings["prompt_n"] / timings["prompt_ms"]
        assert timings["prompt_per_second"] == pytest.approx(speed)


def test_the_chat_says_how_much_of_the_prompt_was_in_the_cache() -> None:
    service = scripted_service()

    async def chat(http: aiohttp.ClientSession, url: str) -> str:
        turn = {"role": "user", "content": QUESTION}
        asked = {"messages": [turn], "temperature": 0, "max_tokens": 9}
        async for said in ChatClient(http, url).answer(asked, asyncio.Event()):
            if isinstance(said, ChatFinished):
                return details(said, num_answers=1, num_tokens=9)
        raise AssertionError("the answer has no end")

    async def chat_twice() -> list[str]:
        async with api_of(service) as (http, url):
            return [await chat(http, url) for _ in range(2)]

    first, second = asyncio.run(chat_twice())
    num_prompt = len(service.tokenizer.encode_chat(turns([("user", QUESTION)])))
    assert f"{num_prompt} tokens, 0 from cache," in first
    assert f"{num_prompt} tokens, {num_hits(service)} from cache," in second
    assert num_hits(service) > 0


def test_a_stream_that_finds_its_own_blocks_again_was_not_in_the_cache() -> None:
    """Two answers do not fit at once: one loses its place and reads on from its own blocks."""
    target = ScriptedTarget(TARGET, num_blocks=NUM_BLOCKS, context_tokens=700)
    service = make_service(target, ScriptedTokenizer(TARGET.vocab_size))

    async def ask_both() -> list[dict[str, Any]]:
        async with api_of(service) as (http, url):
            questions = (QUESTION, OTHER_QUESTION)
            return await asyncio.gather(*(ask(http, url, each, 280) for each in questions))

    answers = asyncio.run(ask_both())
    assert service.planner.admission.num_preemptions > 0
    assert num_hits(service) > 0
    assert [0, 0] == [cached_tokens(answer) for answer in answers]


def asked_again_with(
    service: VerifierService, disturb: Callable[[ChaosProxy], AsyncIterator[None]]
) -> dict[str, Any]:
    """The second answer to the same question, with a disturbance while it is made."""

    async def run() -> dict[str, Any]:
        async with api_behind_a_proxy(service) as (http, url, proxy):
            await ask(http, url)
            answer = asyncio.create_task(ask(http, url, max_tokens=60))
            async for _ in disturb(proxy):
                pass
            return await answer

    return asyncio.run(run())


def test_a_link_that_is_cut_before_the_first_token_changes_nothing() -> None:
    service = scripted_service(delay_seconds=lambda _: 0.05)

    async def cut(proxy: ChaosProxy) -> AsyncIterator[None]:
        await eventually(lambda: bool(service.planner.streams))
        (stream,) = service.planner.streams.values()
        assert 0 == stream.position
        proxy.reset()
        yield

    answer = asked_again_with(service, cut)
    assert 1 == service.metrics.registry.get_sample_value("goodspeed_streams_resumed_total")
    assert num_hits(service) == cached_tokens(answer) > 0


def test_a_stream_that_is_opened_again_elsewhere_keeps_what_its_first_token_had() -> None:
    """The other verifier reads the prompt anew; prompt and first token were the first one's."""
    service = scripted_service(delay_seconds=lambda _: 0.003)
    other = scripted_service()

    async def move(proxy: ChaosProxy) -> AsyncIterator[None]:
        await eventually(lambda: any(s.position > 5 for s in service.planner.streams.values()))
        async with running_verifier(other) as verifier:
            proxy.target = local(verifier.port)
            proxy.reset()
            await eventually(lambda: bool(other.device("board").kept.num_ended))
            yield

    answer = asked_again_with(service, move)
    assert 60 == answer["usage"]["completion_tokens"]
    assert 0 == num_hits(other)
    assert num_hits(service) == cached_tokens(answer) > 0
