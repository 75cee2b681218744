"""Links break, verifiers restart, boards come back: a client that stays sees one stream."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

import edge_agent.generation.channels
import edge_agent.link.backoff
import verifier.server.server
from edge_agent.generation.agent import Agent
from edge_agent.generation.generation import GenerationRequest
from shared.errors import VerifierAway
from shared.protocol.messages import (
    AcceptanceMode,
    Error,
    ErrorCode,
    GoingAway,
    Open,
    Verdict,
    Welcome,
)
from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.support.ends.loopback import (
    DRAFT_SETTINGS,
    Verifier,
    chat,
    generate,
    running_agent,
    running_verifier,
)
from tests.support.ends.raw_board import hello_to, raw_board
from tests.support.ends.scripted import VOCAB_SIZE, board, scripted_service, target_text
from tests.support.ends.waiting import eventually
from tests.support.network.chaos_lane import Weather
from tests.support.network.chaos_proxy import ChaosProxy, local
from tests.support.programs.ports import free_port
from tests.support.statistics.sampled_text import token_ids_of
from verifier.engine.service import VerifierService

MAX_TOKENS = 200
ROUND_SECONDS = 0.003
JITTER = Weather(jitter_seconds=0.002)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_agent.link.backoff, "FIRST_DELAY_SECONDS", 0.02)
    monkeypatch.setattr(verifier.server.server, "RETRY_AFTER_SECONDS", 0.02)


def request(
    i: int, sampling: SamplingParameters, mode: AcceptanceMode = "coupled"
) -> GenerationRequest:
    return GenerationRequest(
        messages=chat(f"hello {i}"),
        sampling=sampling,
        seed=50 + i,
        max_tokens=MAX_TOKENS,
        acceptance_mode=mode,
    )


# The text of all of these is known: with one survivor `rejection` has no choice.
KNOWN = (
    request(0, GREEDY),
    request(1, SamplingParameters(0.9, top_p=0.9)),
    request(2, SamplingParameters(1.0, top_k=1), "rejection"),
)
REJECTION = request(3, SamplingParameters(1.0), "rejection")
REQUESTS = (*KNOWN, REJECTION)


def service_of_one() -> VerifierService:
    return scripted_service(delay_seconds=lambda _: ROUND_SECONDS)


@dataclass
class Fleet:
    """A verifier that can be stopped and started, one agent behind a proxy."""

    verifier: Verifier
    proxy: ChaosProxy
    agent: Agent
    running: AsyncExitStack = field(repr=False)  # the verifier's

    async def restart_verifier(self) -> None:
        """Another process in its place: it knows nothing of the streams."""
        port = self.verifier.port
        await self.running.aclose()
        await self.start_verifier(port)

    async def start_verifier(self, port: int = 0) -> None:
        starting = running_verifier(service_of_one(), port=port)
        self.verifier = await self.running.enter_async_context(starting)

    async def committed(self, num_tokens: int) -> None:
        """Wait until an open stream has this many tokens."""
        streams = self.verifier.service.planner.streams
        await eventually(lambda: any(s.position >= num_tokens for s in streams.values()))


@asynccontextmanager
async def fleet() -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as running, AsyncExitStack() as stack:
        verifier_ = await running.enter_async_context(running_verifier(service_of_one()))
        proxy = await stack.enter_async_context(ChaosProxy(local(verifier_.port), JITTER))
        drafter = board(0.15, seconds_per_token=0.0003)
        agent = await stack.enter_async_context(running_agent(verifier_, drafter, url=proxy.url))
        yield Fleet(verifier_, proxy, agent, running)


async def disturbed(
    disturb: Callable[[Fleet], Awaitable[None]], positions: tuple[int, ...]
) -> list[str]:
    """The texts of all requests, generated at once while `disturb` runs at these positions."""
    async with fleet() as parts:
        texts = [asyncio.create_task(generate(parts.agent, request)) for request in REQUESTS]
        for position in positions:
            await parts.committed(position)
            assert not any(text.done() for text in texts)
            await disturb(parts)
        results = await asyncio.gather(*texts)
    assert [("length", MAX_TOKENS)] * len(REQUESTS) == [
        (finished.reason, finished.timings.output_tokens) for _, finished in results
    ]
    return [text for text, _ in results]


async def cut_the_link(parts: Fleet) -> None:
    device = parts.verifier.service.devices["board"]
    epoch = device.epoch
    parts.proxy.reset()
    await eventually(lambda: device.epoch > epoch)  # the agent came back


async def restart_the_verifier(parts: Fleet) -> None:
    await parts.restart_verifier()


async def connect_as_the_same_device(parts: Fleet) -> None:
    async with raw_board(parts.verifier, "board") as intruder:
        welcome = next(m for m in intruder.received if isinstance(m, Welcome))
        device = parts.verifier.service.devices["board"]
        assert welcome.epoch <= device.epoch
        await eventually(lambda: device.epoch > welcome.epoch)  # the agent came back
        assert ErrorCode.REPLACED == (await intruder.error()).code
        await intruder.ended()


@pytest.mark.parametrize(
    ("disturb", "positions"),
    [
        (cut_the_link, (1, 20, 21, 60, 120)),
        (restart_the_verifier, (20, 60)),
        (connect_as_the_same_device, (20, 60)),
    ],
)
def test_a_client_sees_one_uninterrupted_stream(
    disturb: Callable[[Fleet], Coroutine[Any, Any, None]], positions: tuple[int, ...]
) -> None:
    *known, of_rejection = asyncio.run(disturbed(disturb, positions))
    assert [target_text(request) for request in KNOWN] == known
    assert MAX_TOKENS == len(token_ids_of(of_rejection, VOCAB_SIZE))


def test_drafts_count_again_after_the_link_was_cut() -> None:
    async def accepted_after_the_cut() -> int:
        async with fleet() as parts:
            text = asyncio.create_task(generate(parts.agent, REQUESTS[2]))
            await parts.committed(30)
            parts.proxy.reset()
            metrics = parts.verifier.service.metrics.registry
            name, labels = "goodspeed_spec_decode_num_accepted_tokens_total", {"device": "board"}
            before = metrics.get_sample_value(name, labels) or 0.0
            await text
            return int((metrics.get_sample_value(name, labels) or 0.0) - before)

    assert asyncio.run(accepted_after_the_cut()) > 10


# --- without a verifier ---------------------------------------------------------------------------


def lonely_agent(port: int) -> Agent:
    return Agent(board(), DRAFT_SETTINGS, url=f"ws://127.0.0.1:{port}", token="gsd_board_x")


async def why_away(agent: Agent) -> str:
    with pytest.raises(VerifierAway) as away:
        await generate(agent, KNOWN[0])
    return str(away.value)


def test_without_a_verifier_clients_are_told_why() -> None:
    port = free_port()
    url = f"ws://127.0.0.1:{port}"

    async def sentences() -> tuple[str, str]:
        agent = lonely_agent(port)
        before = await why_away(agent)
        running = asyncio.create_task(agent.run())
        now = before
        async with asyncio.timeout(10):
            while now == before:
                await asyncio.sleep(0.002)
                now = await why_away(agent)
        running.cancel()
        await asyncio.wait([running])
        assert "the agent is shutting down" == await why_away(agent)
        return before, now

    before, now = asyncio.run(sentences())
    assert f"not connected to the verifier at {url} yet" == before
    assert now.startswith(f"cannot reach the verifier at {url}: ")


def test_a_shutdown_of_the_agent_ends_its_clients() -> None:
    async def sentence() -> str:
        service = service_of_one()
        async with running_verifier(service) as verifier_:
            async with running_agent(verifier_, board()) as agent:
                client = asyncio.create_task(why_away(agent))
                await eventually(lambda: bool(service.planner.streams))
            # It said Goodbye: the verifier need not find out by itself.
            await eventually(lambda: service.devices["board"].outbox is None, seconds=1)
            await eventually(lambda: not service.planner.streams, seconds=1)
            return await client

    assert "the agent is shutting down" == asyncio.run(sentence())


def test_a_client_does_not_wait_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_agent.generation.channels, "RESUME_SECONDS", 0.3)

    async def sentence() -> str:
        async with fleet() as parts:
            client = asyncio.create_task(why_away(parts.agent))
            await parts.committed(10)
            started_at = time.monotonic()
            await parts.running.aclose()
            told = await client
            assert time.monotonic() - started_at < 2
            return told

    assert asyncio.run(sentence()).startswith("cannot reach the verifier at ")


def test_clients_of_a_revoked_token_are_told_at_once() -> None:
    async def sentence() -> str:
        async with fleet() as parts:
            client = asyncio.create_task(why_away(parts.agent))
            await parts.committed(10)
            port = parts.verifier.port
            await parts.running.aclose()
            async with running_verifier(service_of_one(), ("another",), port=port):
                return await client

    assert "the verifier does not accept this device's token" == asyncio.run(sentence())


def test_the_first_failure_of_a_cycle_is_a_warning_and_the_rest_are_not(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_agent.link.backoff, "MAX_DELAY_SECONDS", 0.02)
    caplog.set_level(logging.DEBUG, "edge_agent.generation.agent")

    def levels() -> list[int]:
        records = [r for r in caplog.records if "trying again" in r.getMessage()]
        return [record.levelno for record in records]

    async def lose_the_verifier_twice() -> None:
        async with fleet() as parts:
            for num_warnings in (1, 2):
                port = parts.verifier.port
                await parts.running.aclose()
                num_before = len(levels())
                await eventually(lambda at=num_before + 4: len(levels()) >= at)  # type: ignore[misc]
                assert num_warnings == levels().count(logging.WARNING)
                await parts.start_verifier(port)
                await eventually(lambda: parts.agent.target_model is not None)

    asyncio.run(lose_the_verifier_twice())
    assert logging.WARNING == levels()[0]


# --- how a verifier leaves ------------------------------------------------------------------------


def test_a_stopping_verifier_says_so_and_finishes_the_running_round() -> None:
    async def messages() -> tuple[list[object], float]:
        service = scripted_service(delay_seconds=lambda _: 0.2)
        async with AsyncExitStack() as running:
            verifier_ = await running.enter_async_context(running_verifier(service))
            async with raw_board(verifier_, "board") as bad:
                await bad.open()
                before = await bad.next_of(Verdict)
                await asyncio.sleep(0)  # the next round begins
                started_at = time.monotonic()
                stopping = asyncio.create_task(running.aclose())
                await bad.next_of(GoingAway)
                await bad.send(Open(1, 1, text="too late"))
                await bad.ended()
                await stopping
                seconds = time.monotonic() - started_at
                last = bad.received[bad.received.index(before) + 1 :]
                return [m for m in last if not isinstance(m, Welcome)], seconds

    received, seconds = asyncio.run(messages())
    assert GoingAway(0.02) in received
    verdicts = [message for message in received if isinstance(message, Verdict)]
    assert [0] == [verdict.channel for verdict in verdicts]
    assert [] == [message for message in received if isinstance(message, Error)]
    assert seconds < 1.0


def test_a_board_that_does_not_read_delays_a_stop_for_a_moment_only() -> None:
    async def seconds() -> float:
        async with AsyncExitStack() as running:
            verifier_ = await running.enter_async_context(running_verifier(service_of_one()))
            async with raw_board(verifier_, "board", greets=False) as silent:
                await silent.send(hello_to(verifier_))
                service = verifier_.service
                await eventually(lambda: service.device("board").outbox is not None)
                started_at = time.monotonic()
                await running.aclose()
                return time.monotonic() - started_at

    assert asyncio.run(seconds()) < 5


def test_a_stop_between_two_generations_is_short() -> None:
    async def seconds() -> float:
        async with fleet() as parts:
            await generate(parts.agent, KNOWN[0])
            started_at = time.monotonic()
            await parts.running.aclose()
            return time.monotonic() - started_at

    assert asyncio.run(seconds()) < 1
