"""The agent between its clients and a verifier: what goes in, what comes out, who is told what."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgspec
import numpy as np
import pytest
from aiohttp import web
from numpy.typing import NDArray

import edge_agent.link.backoff
from edge_agent.draft_model.drafter import Forward
from edge_agent.draft_model.scripted_drafter import ScriptedDrafter
from edge_agent.generation.agent import Agent
from edge_agent.generation.generation import GenerationRequest, TextPiece
from shared.errors import (
    HandshakeRejected,
    LocalProtocolError,
    ModelError,
    RequestRefused,
    TooManyStreams,
    VerifierAway,
)
from shared.protocol.fingerprint import Difference
from shared.protocol.messages import (
    MAX_MESSAGE_BYTES,
    Cancel,
    Draft,
    Error,
    ErrorCode,
    Finish,
    GoingAway,
    Hello,
    Open,
    Opened,
    Ready,
    Resume,
    Verdict,
)
from shared.protocol.token_ids import pack_token_ids
from shared.speculation.sampling import GREEDY
from tests.support.ends.fake_verifier import WELCOME, Serve, VerifierSide, fake_verifier, serving
from tests.support.ends.loopback import (
    DRAFT_SETTINGS,
    chat,
    generate,
    running_agent,
    running_verifier,
)
from tests.support.ends.scripted import board, patient_service, scripted_service, target_text
from tests.support.ends.waiting import eventually

HELLO = GenerationRequest(messages=chat("hello"), sampling=GREEDY, seed=1, max_tokens=50)


@asynccontextmanager
async def agent_of(serve: Serve, drafter: ScriptedDrafter | None = None) -> AsyncIterator[Agent]:
    """An agent that is connected to a verifier driven by hand."""
    async with fake_verifier(serve) as url:
        agent = Agent(drafter or board(), DRAFT_SETTINGS, url=url, token="t")
        running = asyncio.create_task(agent.run())
        try:
            await eventually(lambda: agent.target_model is not None)
            yield agent
        finally:
            running.cancel()
            await asyncio.wait([running])


def verdict(channel: int, position: int, *token_ids: int, **rest: Any) -> Verdict:
    return Verdict(channel, position, 0, pack_token_ids(token_ids), **rest)


# --- a generation ---------------------------------------------------------------------------------


def test_it_tells_the_verifier_about_the_board() -> None:
    hellos: list[Hello] = []

    async def serve(verifier: VerifierSide) -> None:
        hellos.append(await verifier.welcome())
        await verifier.until_gone()

    async def connect() -> str | None:
        async with agent_of(serve, board(num_slots=3)) as agent:
            return agent.target_model

    assert "fake" == asyncio.run(connect())
    (hello,) = hellos
    assert (64, 2048, 3) == (hello.vocab_size, hello.context_tokens, hello.max_streams)


def test_pieces_and_counts_of_a_generation_fit_together() -> None:
    async def events() -> list[object]:
        service = patient_service()
        async with (
            running_verifier(service) as verifier,
            running_agent(verifier, board(0.0)) as agent,
            aclosing(agent.generate(HELLO)) as generation,  # type: ignore[type-var]
        ):
            return [event async for event in generation]

    *pieces, finished = asyncio.run(events())
    texts = [(p.text, p.origin) for p in pieces if isinstance(p, TextPiece)]
    assert len(pieces) == len(texts)
    assert target_text(HELLO) == "".join(text for text, _ in texts)
    assert "length" == finished.reason  # type: ignore[attr-defined]
    timings = finished.timings  # type: ignore[attr-defined]
    assert (5, 50) == (timings.prompt_tokens, timings.output_tokens)
    assert sum(origin == "accepted" for _, origin in texts) == timings.accepted_tokens
    assert 0 < timings.accepted_tokens <= timings.drafted_tokens
    assert 50 == timings.accepted_tokens + timings.num_verdicts
    assert 0 < timings.seconds_to_first_token <= timings.total_seconds
    assert 0 < timings.wire_bytes < 50 * 60


def test_figures_come_with_the_text_and_end_as_the_last_ones() -> None:
    """Over a real socket, with a round trip that was measured there."""

    async def events() -> list[object]:
        service = scripted_service(delay_seconds=lambda _: 0.003)
        async with (
            running_verifier(service) as verifier,
            running_agent(verifier, board(0.3)) as agent,
            aclosing(agent.generate(HELLO)) as generation,  # type: ignore[type-var]
        ):
            return [event async for event in generation]

    *events_before, finished = asyncio.run(events())
    pieces = [event for event in events_before if isinstance(event, TextPiece)]
    figures = [piece.so_far for piece in pieces if piece.so_far is not None]
    assert finished.timings == figures[-1]  # type: ignore[attr-defined]
    counts = [(timings.output_tokens, timings.num_verdicts) for timings in figures]
    assert sorted(set(counts)) == counts
    assert all(0.0 < (timings.round_trip_seconds or 0.0) < 5.0 for timings in figures)
    reasons = [piece.reason for piece in pieces if piece.origin == "target"]
    assert {"rejection", "alone"} <= set(reasons) <= {"rejection", "bonus", "alone"}
    assert figures[-1].rejections >= reasons.count("rejection") > 0


def test_without_speculation_nothing_is_drafted() -> None:
    async def timings() -> tuple[int, int]:
        service = scripted_service()
        async with running_verifier(service) as verifier, running_agent(verifier, board()) as agent:
            request = GenerationRequest(
                messages=chat("hello"), sampling=GREEDY, seed=1, max_tokens=50, draft_length=0
            )
            _, finished = await generate(agent, request)
            return finished.timings.drafted_tokens, finished.timings.num_verdicts

    assert (0, 50) == asyncio.run(timings())


def test_more_generations_than_slots_all_end_right() -> None:
    requests = [
        GenerationRequest(messages=chat(f"hello {i}"), sampling=GREEDY, seed=1, max_tokens=30)
        for i in range(7)
    ]

    async def texts() -> list[str]:
        service = scripted_service()
        async with (
            running_verifier(service) as verifier,
            running_agent(verifier, board(num_slots=2)) as agent,
        ):
            results = await asyncio.gather(*(generate(agent, request) for request in requests))
        return [text for text, _ in results]

    assert [target_text(request) for request in requests] == asyncio.run(texts())


def test_a_client_that_leaves_cancels_its_generation() -> None:
    received: list[object] = []

    async def serve(verifier: VerifierSide) -> None:
        await verifier.welcome()
        message = await verifier.opened()
        await verifier.send(verdict(message.channel, 0, 7))
        await verifier.next_of(Cancel)
        received.extend(verifier.received)
        await verifier.send(verdict(message.channel, 1, 8))  # crosses the Cancel: ignored
        await verifier.send(verdict(message.channel, 2, finish=Finish("cancelled", 0)))
        second = await verifier.opened()
        await verifier.send(verdict(second.channel, 0, 7, finish=Finish("length", 100)))
        await verifier.until_gone()

    async def leave() -> str:
        async with agent_of(serve) as agent:
            generation = agent.generate(HELLO)
            assert isinstance(await anext(generation), TextPiece)
            await generation.aclose()  # type: ignore[attr-defined]
            text, _ = await generate(agent, HELLO)
            return text

    assert board().token_bytes[7].decode() == asyncio.run(leave())
    assert Cancel(0) == received[-1]


# --- errors ---------------------------------------------------------------------------------------


async def failure(agent: Agent, request: GenerationRequest = HELLO) -> Exception:
    with pytest.raises(Exception) as failed:
        await generate(agent, request)
    return failed.value


@pytest.mark.parametrize(
    ("error", "error_type", "field"),
    [
        (Error(ErrorCode.REQUEST, "no such prompt", 0, "messages"), RequestRefused, "messages"),
        (Error(ErrorCode.LIMIT, "too many", 0), TooManyStreams, None),
        (Error(ErrorCode.MODEL, "out of order", 0), ModelError, None),
        (Error(ErrorCode.PROTOCOL, "a gap", 0), ModelError, None),
    ],
)
def test_a_client_is_told_what_the_verifier_says(
    error: Error, error_type: type[Exception], field: str | None
) -> None:
    async def serve(verifier: VerifierSide) -> None:
        await verifier.welcome()
        await verifier.opened()
        await verifier.send(error)
        await verifier.until_gone()

    async def told() -> Exception:
        async with agent_of(serve) as agent:
            return await failure(agent)

    failed = asyncio.run(told())
    assert error_type is type(failed)
    assert error.sentence in str(failed)
    assert field == getattr(failed, "field", None)


def test_no_more_streams_are_opened_than_the_verifier_takes() -> None:
    async def ask_for_three() -> tuple[Exception, int, int]:
        service = scripted_service(max_streams_per_device=2, delay_seconds=lambda _: 0.005)
        async with running_verifier(service) as verifier, running_agent(verifier, board()) as agent:
            endless = msgspec.structs.replace(HELLO, max_tokens=1000)
            running = [asyncio.create_task(generate(agent, endless)) for _ in range(2)]
            await eventually(lambda: len(service.planner.streams) == 2)
            refused = await failure(agent)
            for task in running:
                task.cancel()
            await eventually(lambda: not service.planner.streams)
            _, finished = await generate(agent, HELLO)
            limit = {"reason": ErrorCode.LIMIT}
            registry = service.metrics.registry
            num_refused = registry.get_sample_value("goodspeed_rejected_messages_total", limit)
            return refused, int(num_refused or 0), finished.timings.output_tokens

    refused, num_refused, num_tokens = asyncio.run(ask_for_three())
    assert isinstance(refused, TooManyStreams)
    assert "the device has 2 streams already" == str(refused)
    assert (0, 50) == (num_refused, num_tokens)


def test_streams_that_waited_for_a_link_are_opened_as_far_as_the_verifier_takes_them() -> None:
    async def serve(verifier: VerifierSide) -> None:
        await verifier.next_of(Hello)
        await verifier.send(msgspec.structs.replace(WELCOME, max_streams=1))
        message = await verifier.next_of(Resume)
        await verifier.send(Opened(message.channel, pack_token_ids([1]), 5, "coupled"))
        await verifier.send(verdict(message.channel, 0, 7, finish=Finish("length", 100)))
        await verifier.until_gone()

    async def resume(agent: Agent, stream_id: int) -> str:
        try:
            return [type(event).__name__ async for event in agent.resume(stream_id)][-1]
        except TooManyStreams:
            return "TooManyStreams"

    async def wait_for_a_link() -> list[str]:
        async with fake_verifier(serve) as url:
            agent = Agent(board(), DRAFT_SETTINGS, url=url, token="t")
            waiting = [asyncio.create_task(resume(agent, stream_id)) for stream_id in (1, 2)]
            await asyncio.sleep(0)
            running = asyncio.create_task(agent.run())
            try:
                return list(await asyncio.gather(*waiting))
            finally:
                running.cancel()
                await asyncio.wait([running])

    assert ["Finished", "TooManyStreams"] == asyncio.run(wait_for_a_link())


@pytest.mark.parametrize("text", ["\ud800", "\ud800" * MAX_MESSAGE_BYTES])
def test_a_request_that_fits_into_no_message_is_refused_alone(text: str) -> None:
    async def serve(verifier: VerifierSide) -> None:
        await verifier.welcome()
        message = await verifier.opened()
        await verifier.send(verdict(message.channel, 0, 7, finish=Finish("length", 100)))
        await verifier.until_gone()

    async def told() -> Exception:
        async with agent_of(serve) as agent:
            failed = await failure(agent, GenerationRequest(text=text))
            await generate(agent, HELLO)
            return failed

    failed = asyncio.run(told())
    assert isinstance(failed, RequestRefused)
    assert isinstance(failed.__cause__, LocalProtocolError)
    assert str(failed).startswith("the request cannot be sent: Open cannot be packed")


@pytest.mark.parametrize(
    "wrong",
    [
        verdict(0, 5, 7),  # not where the stream is
        Verdict(0, 0, 3, pack_token_ids([7])),  # accepts what was never sent
        verdict(0, 0, 99),  # outside the vocabulary
    ],
)
def test_a_wrong_verdict_ends_its_generation_alone(wrong: Verdict) -> None:
    received: list[object] = []

    async def serve(verifier: VerifierSide) -> None:
        await verifier.welcome()
        await verifier.opened()
        second = await verifier.opened()
        await verifier.send(wrong)
        received.append(await verifier.next_of(Cancel))
        await verifier.send(verdict(second.channel, 0, 7, finish=Finish("length", 100)))
        await verifier.until_gone()

    async def told() -> tuple[Exception, str]:
        async with agent_of(serve) as agent:
            failing = asyncio.create_task(failure(agent))
            await asyncio.sleep(0)
            text, _ = await generate(agent, HELLO)
            return await failing, text

    failed, text = asyncio.run(told())
    assert isinstance(failed, ModelError)
    assert str(failed).startswith("the verifier broke the protocol: ")
    assert text
    assert [Cancel(0)] == received


def test_while_a_verifier_shuts_down_clients_are_told() -> None:
    async def serve(verifier: VerifierSide) -> None:
        await verifier.welcome()
        await verifier.opened()
        await verifier.send(GoingAway(1.0))
        await verifier.until_gone()

    async def told() -> str:
        async with agent_of(serve) as agent:
            first = asyncio.create_task(failure(agent))
            await eventually(lambda: not agent._channels.takes_streams)
            sentence = str(await failure(agent))
            first.cancel()
            return sentence

    sentence = asyncio.run(told())
    assert sentence.startswith("the verifier at ws://127.0.0.1:")
    assert sentence.endswith(" is shutting down")


class BrokenDrafter(ScriptedDrafter):
    """Fails in a way that nobody foresaw."""

    def forward(self, batch: Sequence[Forward]) -> list[NDArray[np.float32] | None]:
        raise ZeroDivisionError


def test_a_bug_in_drafting_ends_the_agent_and_is_not_hidden() -> None:
    async def run() -> None:
        service = scripted_service()
        working = board()
        drafter = BrokenDrafter(lambda _: np.zeros(64, np.float32), working.token_bytes)
        async with running_verifier(service) as verifier:
            token = verifier.tokens["board"]
            agent = Agent(drafter, DRAFT_SETTINGS, url=verifier.url, token=token)
            running = asyncio.create_task(agent.run())
            await eventually(lambda: agent.target_model is not None)
            told = await failure(agent)
            assert isinstance(told, VerifierAway)
            await running

    with pytest.RaisesGroup(ZeroDivisionError):
        asyncio.run(run())


# --- a new connection -----------------------------------------------------------------------------


def test_a_stream_is_taken_up_again_with_what_is_committed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(edge_agent.link.backoff, "FIRST_DELAY_SECONDS", 0.01)
    opens: list[Open] = []

    async def serve(verifier: VerifierSide) -> None:
        await verifier.welcome()
        message = await verifier.next_of(Open)
        opens.append(message)
        if len(opens) == 1:
            await verifier.send(opened_like(message))
            await verifier.send(verdict(message.channel, 0, 7))
            await verifier.send(verdict(message.channel, 1, 8, 9))
            return  # and the connection closes
        await verifier.send(opened_like(message))
        await verifier.send(verdict(message.channel, 3, 10, finish=Finish("length", 100)))
        await verifier.until_gone()

    def opened_like(message: Open) -> Opened:
        return Opened(message.channel, pack_token_ids([1, 2, 3]), 99, "coupled")

    async def text() -> str:
        async with agent_of(serve) as agent:
            return (await generate(agent, HELLO))[0]

    expected = b"".join(board().token_bytes[token_id] for token_id in (7, 8, 9, 10)).decode()
    assert expected == asyncio.run(text())
    first, second = opens
    assert (HELLO.messages, b"", b"", 1) == (
        first.messages,
        first.prompt,
        first.committed,
        first.seed,
    )
    assert () == second.messages
    assert pack_token_ids([1, 2, 3]) == second.prompt
    assert pack_token_ids([7, 8, 9]) == second.committed
    assert (99, "coupled") == (second.seed, second.acceptance_mode)
    assert first.stream_id == second.stream_id


def test_a_stream_taken_up_again_says_nothing_before_it_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(edge_agent.link.backoff, "FIRST_DELAY_SECONDS", 0.01)
    prompt_ids = tuple(range(1, 40))
    early: list[object] = []
    num_connections = 0

    async def serve(verifier: VerifierSide) -> None:
        nonlocal num_connections
        num_connections += 1
        await verifier.welcome()
        if num_connections == 1:
            message = await verifier.opened(prompt_ids)
            await verifier.send(verdict(message.channel, 0, *range(1, 30)))
            return
        message = await verifier.next_of(Open)
        # The board has read the prompt and goes on with its own reading all this while.
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                early.append(await verifier.next())
        await verifier.send(Opened(message.channel, pack_token_ids(prompt_ids), 99, "coupled"))
        await verifier.send(verdict(message.channel, 29, 5, 6, 7))
        assert Ready(message.channel) == await verifier.next()
        await verifier.send(verdict(message.channel, 32, 4, draft_length=2, window=2))
        draft = await verifier.next_of(Draft)
        assert 33 == draft.position
        await verifier.send(verdict(message.channel, 33, 4, finish=Finish("length", 10_000)))
        await verifier.until_gone()

    async def run() -> int:
        async with agent_of(serve, board(seconds_per_token=0.001)) as agent:
            _, finished = await generate(agent, HELLO)
            return finished.timings.output_tokens

    assert 34 == asyncio.run(run())
    assert [] == early


# --- after a restart ------------------------------------------------------------------------------


async def resumed(agent: Agent, stream_id: int = 77) -> str:
    """The whole text of a generation that an agent before this one had begun."""
    texts = []
    async for event in agent.resume(stream_id):
        if isinstance(event, TextPiece):
            texts.append(event.text)
    return "".join(texts)


async def serve_resume(verifier: VerifierSide) -> None:
    await verifier.welcome()
    message = await verifier.next_of(Resume)
    assert Resume(0, 77) == message
    await verifier.send(Opened(0, pack_token_ids([1, 2, 3]), 99, "coupled"))
    await verifier.send(verdict(0, 0, 7, 8, 9))
    await verifier.send(verdict(0, 3, 10, finish=Finish("length", 100)))
    await verifier.until_gone()


RESUMED = b"".join(board().token_bytes[token_id] for token_id in (7, 8, 9, 10)).decode()


def test_a_generation_from_before_the_restart_is_resumed_by_its_name() -> None:
    async def text() -> str:
        async with agent_of(serve_resume) as agent:
            return await resumed(agent)

    assert RESUMED == asyncio.run(text())


def test_who_comes_back_before_the_verifier_is_there_waits_for_it() -> None:
    async def text() -> str:
        async with fake_verifier(serve_resume) as url:
            agent = Agent(board(), DRAFT_SETTINGS, url=url, token="t")
            resuming = asyncio.create_task(resumed(agent))
            await asyncio.sleep(0)
            assert agent.target_model is None
            running = asyncio.create_task(agent.run())
            try:
                return await resuming
            finally:
                running.cancel()
                await asyncio.wait([running])

    assert RESUMED == asyncio.run(text())


def test_a_generation_that_the_verifier_does_not_have_is_refused() -> None:
    async def told() -> tuple[Exception, Exception]:
        service = scripted_service()
        async with running_verifier(service) as verifier:
            async with running_agent(verifier, board()) as agent:
                with pytest.raises(RequestRefused) as refused:
                    await resumed(agent)
            with pytest.raises(VerifierAway) as away:
                await resumed(agent)
            return refused.value, away.value

    refused, away = asyncio.run(told())
    assert "this verifier does not have the stream any more" == str(refused)
    assert "the agent is shutting down" == str(away)


def test_what_keeps_the_verifier_away_is_said_once_until_it_is_something_else(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_agent.link.backoff, "FIRST_DELAY_SECONDS", 0.005)
    monkeypatch.setattr(edge_agent.link.backoff, "MAX_DELAY_SECONDS", 0.005)
    monkeypatch.setattr(edge_agent.link.backoff, "REFUSED_DELAY_SECONDS", 0.005)
    caplog.set_level(logging.DEBUG, "edge_agent.generation.agent")
    num_asked = 0

    async def accept(request: web.Request) -> web.StreamResponse:
        nonlocal num_asked
        num_asked += 1
        raise web.HTTPServiceUnavailable if num_asked <= 3 else web.HTTPUnauthorized

    async def run() -> None:
        async with serving(accept) as url:
            agent = Agent(board(), DRAFT_SETTINGS, url=url, token="t")
            running = asyncio.create_task(agent.run())
            await eventually(lambda: len(levels()) >= 6)
            running.cancel()
            await asyncio.wait([running])

    def levels() -> list[int]:
        name = "edge_agent.generation.agent"
        return [record.levelno for record in caplog.records if record.name == name]

    asyncio.run(run())
    assert [
        logging.WARNING,
        logging.DEBUG,
        logging.DEBUG,
        logging.WARNING,
        logging.DEBUG,
        logging.DEBUG,
    ] == levels()[:6]


def test_a_refused_vocabulary_is_final_until_another_verifier_comes(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said once, clients hear it at once, and a verifier that fits is found later."""
    caplog.set_level(logging.WARNING, "edge_agent.generation.agent")
    meaning = f"token id 1 is {board().token_bytes[1]!r} here and b'x' there"
    sentence = f"draft model d has another vocabulary than t: {meaning}"
    refusal = Error(
        ErrorCode.VOCABULARY,
        "draft model d has another vocabulary than t",
        difference=Difference(block=0, token_bytes=(board().token_bytes[0], b"x")),
    )
    num_refused = 0

    async def serve(verifier: VerifierSide) -> None:
        nonlocal num_refused
        if num_refused < 2:
            num_refused += 1
            await verifier.next_of(Hello)
            await verifier.send(refusal)
        else:
            await serve_resume(verifier)

    async def run() -> str:
        async with fake_verifier(serve) as url:
            agent = Agent(board(), DRAFT_SETTINGS, url=url, token="t")
            running = asyncio.create_task(agent.run())
            await eventually(lambda: num_refused == 1)
            await asyncio.sleep(0.3)
            assert 1 == num_refused
            for told in (await failure(agent), await failed_resume(agent)):
                assert isinstance(told, HandshakeRejected)
                assert sentence == str(told)
            running.cancel()
            await asyncio.wait([running])
            monkeypatch.setattr(edge_agent.link.backoff, "FINAL_DELAY_SECONDS", 0.02)
            again = Agent(board(), DRAFT_SETTINGS, url=url, token="t")
            running = asyncio.create_task(again.run())
            await eventually(lambda: again.target_model is not None)
            text = await resumed(again)
            running.cancel()
            await asyncio.wait([running])
            return text

    assert RESUMED == asyncio.run(run())
    assert 2 == len(caplog.records)  # once for each agent


async def failed_resume(agent: Agent) -> Exception:
    with pytest.raises(Exception) as failed:
        await resumed(agent)
    return failed.value
