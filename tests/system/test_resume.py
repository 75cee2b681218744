"""Cut links and killed agents: streams are taken up where they are, and nothing is read anew."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

import edge_agent.link.backoff
import edge_agent.link.link
from edge_agent.chat.client import ChatClient
from edge_agent.generation.agent import Agent
from edge_agent.generation.chat_messages import ChatFinished
from edge_agent.generation.generation import GenerationRequest
from shared.protocol.messages import Verdict
from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.support.chats.turns import turns
from tests.support.ends.api_server import serving
from tests.support.ends.loopback import (
    DRAFT_SETTINGS,
    Verifier,
    chat,
    generate,
    running_agent,
    running_verifier,
)
from tests.support.ends.raw_board import raw_board
from tests.support.ends.scripted import board, scripted_service, target_text
from tests.support.ends.waiting import eventually
from tests.support.network.chaos_lane import CALM, HALF_OPEN
from tests.support.network.chaos_proxy import ChaosProxy, local
from tests.support.programs.command import AGENT, LAUNCHERS
from tests.support.programs.programs import Programs
from tests.support.programs.serving_program import ServingProgram
from verifier.engine.service import VerifierService

NUM_TOKENS = 200
SAMPLINGS = {"greedy": GREEDY, "coupled": SamplingParameters(0.9)}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_agent.link.backoff, "FIRST_DELAY_SECONDS", 0.02)
    monkeypatch.setattr(edge_agent.link.backoff, "MAX_DELAY_SECONDS", 0.1)


def request(sampling: SamplingParameters) -> GenerationRequest:
    return GenerationRequest(
        messages=chat("hello"),
        sampling=sampling,
        seed=50,
        max_tokens=NUM_TOKENS,
        acceptance_mode="coupled",
    )


def slow_service() -> VerifierService:
    return scripted_service(delay_seconds=lambda _: 0.003)


async def committed(service: VerifierService, num_tokens: int) -> None:
    """Wait until a stream that runs has so many tokens."""
    streams = service.planner.streams
    await eventually(lambda: any(s.position >= num_tokens for s in streams.values()))


# --- links ----------------------------------------------------------------------------------------


@asynccontextmanager
async def behind_a_proxy(
    service: VerifierService, heartbeat_seconds: float = 20.0
) -> AsyncIterator[tuple[Verifier, ChaosProxy, Agent]]:
    drafter = board(0.15, seconds_per_token=0.0003)
    async with (
        running_verifier(service, heartbeat_seconds=heartbeat_seconds) as verifier,
        ChaosProxy(local(verifier.port)) as proxy,
        running_agent(verifier, drafter, url=proxy.url) as agent,
    ):
        yield verifier, proxy, agent


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS.keys())
def test_after_a_cut_nothing_is_read_anew(sampling: SamplingParameters) -> None:
    service = slow_service()

    async def cut() -> str:
        async with behind_a_proxy(service) as (_, proxy, agent):
            answer = asyncio.create_task(generate(agent, request(sampling)))
            for i, num_tokens in enumerate((1, 30, 31, 90)):
                await committed(service, num_tokens)
                proxy.reset()
                await eventually(lambda n=i: num_resumed(service) > n)  # type: ignore[misc]
            return (await answer)[0]

    assert target_text(request(sampling)) == asyncio.run(cut())
    num_prompt = len(service.tokenizer.encode_chat(turns([("user", "hello")])))
    assert num_prompt == service.planner.admission.num_prefix_query_tokens
    assert 4 == num_resumed(service)


def num_resumed(service: VerifierService) -> int:
    value = service.metrics.registry.get_sample_value("goodspeed_streams_resumed_total")
    return int(value or 0)


def test_a_half_open_link_is_found_out_by_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_agent.link.link, "HEARTBEAT_SECONDS", 0.2)
    monkeypatch.setattr(edge_agent.link.link, "CONNECT_TIMEOUT_SECONDS", 0.5)
    service = slow_service()

    async def lose() -> str:
        async with behind_a_proxy(service, heartbeat_seconds=0.2) as (_, proxy, agent):
            answer = asyncio.create_task(generate(agent, request(GREEDY)))
            await committed(service, 20)
            proxy.weather = HALF_OPEN
            device = service.devices["board"]
            # The verifier hears of it, and runs no more rounds for nobody.
            await eventually(lambda: device.outbox is None and not service.planner.streams)
            assert device.kept.num_open == 1
            proxy.weather = CALM
            return (await answer)[0]

    assert target_text(request(GREEDY)) == asyncio.run(lose())
    assert 1 == num_resumed(service)


def test_a_verdict_lost_with_the_link_is_told_again() -> None:
    service = slow_service()

    async def lose() -> str:
        async with behind_a_proxy(service) as (_, proxy, agent):
            answer = asyncio.create_task(generate(agent, request(GREEDY)))
            await committed(service, 20)
            proxy.down = HALF_OPEN  # to the board nothing comes any more
            await eventually(lambda: service.devices["board"].kept.num_ended == 1)
            proxy.down = CALM
            proxy.reset()
            return (await answer)[0]

    assert target_text(request(GREEDY)) == asyncio.run(lose())


def test_no_other_device_can_take_a_stream() -> None:
    service = slow_service()

    async def steal() -> str:
        async with running_verifier(service, ("board", "thief")) as verifier:
            async with raw_board(verifier, "board") as victim:
                await victim.open(5)
            await eventually(lambda: service.devices["board"].kept.num_open == 1)
            async with raw_board(verifier, "thief") as thief:
                opened = await thief.open(5)
                assert 0 == (await thief.next_of(Verdict)).position
                assert service.devices["board"].kept.num_open == 1
                return opened.acceptance_mode

    assert "coupled" == asyncio.run(steal())


# --- agents ---------------------------------------------------------------------------------------


@dataclass
class Board:
    """An agent with its API, both of which can vanish as a killed process does."""

    verifier: Verifier
    link: ChaosProxy  # between agent and verifier
    gate: ChaosProxy  # between client and agent

    async def run(self, is_killed: asyncio.Event) -> None:
        """One life of the agent."""
        drafter = board(0.15, seconds_per_token=0.0003)
        token = self.verifier.tokens["board"]
        agent = Agent(drafter, DRAFT_SETTINGS, url=self.link.url, token=token)
        running = asyncio.create_task(agent.run())
        async with serving(agent) as url:
            self.gate.target = local(int(url.rpartition(":")[2]))
            await is_killed.wait()
            self.link.weather = self.gate.weather = HALF_OPEN  # it says nothing more
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
        for proxy in (self.link, self.gate):
            proxy.reset()
            proxy.weather = CALM


async def asked(client: ChatClient, sampling: SamplingParameters) -> tuple[str, ChatFinished]:
    wanted = request(sampling)
    fields = {
        "messages": [{"role": "user", "content": "hello"}],
        "temperature": sampling.temperature,
        "seed": wanted.seed,
        "max_tokens": wanted.max_tokens,
    }
    texts = []
    async for said in client.answer(fields, asyncio.Event()):
        if isinstance(said, ChatFinished):
            return "".join(texts), said
        texts.append(said.text)
    raise AssertionError("the answer has no end")


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS.keys())
def test_a_client_reads_on_when_its_agent_was_killed_and_started_again(
    sampling: SamplingParameters,
) -> None:
    service = slow_service()

    async def kill_twice() -> tuple[str, ChatFinished]:
        async with (
            running_verifier(service) as verifier,
            ChaosProxy(local(verifier.port)) as link,
            ChaosProxy(local(1)) as gate,
            aiohttp.ClientSession() as http,
        ):
            lives = Board(verifier, link, gate)
            client = ChatClient(http, f"http://{gate.address}")
            answer: asyncio.Task[tuple[str, ChatFinished]] | None = None
            for num_tokens in (20, 70, None):
                is_killed = asyncio.Event()
                life = asyncio.create_task(lives.run(is_killed))
                if answer is None:
                    await eventually(lambda: service.device("board").outbox is not None)
                    answer = asyncio.create_task(asked(client, sampling))
                if num_tokens is None:
                    await asyncio.wait([answer])
                else:
                    await committed(service, num_tokens)
                is_killed.set()
                await life
            assert answer is not None
            return await answer

    text, finished = asyncio.run(kill_twice())
    assert target_text(request(sampling)) == text
    assert ("length", None) == (finished.reason, finished.timings)
    assert 2 == num_resumed(service)


def test_the_terminal_chat_outlives_a_kill_of_its_agent(tmp_path: Path) -> None:
    """All in processes of their own; the pipe gets the text that it gets undisturbed."""
    with Programs(tmp_path) as programs:
        token_file = programs.token_file("board")
        verifier = programs.verifier((*LAUNCHERS, "verifier", "--scripted", "--round-ms=15"))
        agent = programs.agent(
            f"ws://127.0.0.1:{verifier.port}",
            token_file,
            (*LAUNCHERS, "agent", "--scripted", "--token-ms=1"),
        )
        for program in (verifier, agent):
            program.start()
            program.wait_until_ready()
        assert read_through_a_kill(agent, lambda: None) == read_through_a_kill(
            agent, lambda: kill_and_restart(agent)
        )


def kill_and_restart(agent: ServingProgram) -> None:
    agent.kill()
    agent.start()


def read_through_a_kill(agent: ServingProgram, disturb: Callable[[], None]) -> bytes:
    """What `goodspeed-agent chat` puts out, disturbed after its first bytes."""
    command = [
        *(*AGENT, "chat", "--url", agent.url),
        *("--seed=5", "--temperature=0.8", "--mode=coupled", "--max-tokens=300"),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"tell me a story")
        process.stdin.close()
        first = process.stdout.read(20)
        disturb()
        rest = process.stdout.read()
        assert 0 == process.wait(30)
    return first + rest
