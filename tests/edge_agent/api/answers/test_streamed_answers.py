"""Streamed answers over real sockets: their connection breaks, and they are taken up again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from openai import AsyncOpenAI

from edge_agent.api.answers import kept_streams
from edge_agent.api.answers.kept_streams import KeptStream
from edge_agent.api.answers.patience import Patience
from edge_agent.api.anthropic.message_answer import MessageAnswer
from edge_agent.api.errors import internal_failure
from edge_agent.generation.generation import TextPiece
from edge_agent.generation.queued_generator import QueuedGenerator
from edge_agent.generation.scripted_generator import ScriptedGenerator, Step
from edge_agent.generation.waiting_line import LineLimits
from tests.support.ends.api_server import HELLO, serving
from tests.support.ends.waiting import eventually

CHAT = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
PATH = "/v1/chat/completions"
COMES_BACK = {"Accept": "text/event-stream"}
MIDDLE = TextPiece(" in the middle", "target")


@asynccontextmanager
async def asking(script: list[Step], **options: Any) -> AsyncIterator[tuple[Any, Any]]:
    generator = ScriptedGenerator(script)
    async with serving(generator, **options) as url, aiohttp.ClientSession(url) as http:
        yield http, generator


async def begin_and_break(
    http: aiohttp.ClientSession, body: dict[str, Any] = CHAT, path: str = PATH, **headers: str
) -> str:
    """Ask, read what comes before the script waits, and lose the connection; the last id."""
    asked = {**COMES_BACK, **headers}
    async with http.post(path, json=body, headers=asked) as response:
        assert 200 == response.status
        told = await response.content.readuntil(b"Hello")
        await response.content.readuntil(b"\n\n")
        response.close()
    return told.decode().rpartition("id: ")[2].partition("\n")[0]


async def text_after(http: aiohttp.ClientSession, path: str, **headers: str) -> tuple[int, str]:
    async with http.get(path, headers=headers) as response:
        return response.status, await response.text()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PATH, CHAT),
        ("/v1/completions", {"prompt": "x", "stream": True}),
        ("/v1/messages", {**CHAT, "max_tokens": 9}),
        ("/v1/responses", {"input": "x", "stream": True}),
    ],
)
def test_the_same_request_with_the_last_id_goes_on(path: str, body: dict[str, Any]) -> None:
    async def scenario() -> None:
        go_on = asyncio.Event()
        async with asking([HELLO[0], go_on, MIDDLE]) as (http, generator):
            go_on.set()
            async with http.post(path, json=body) as response:
                whole = await response.text()
            go_on.clear()
            last_id = await begin_and_break(http, body, path)
            again = {"Last-Event-ID": last_id}
            async with http.post(path, json=body, headers=again) as response:
                go_on.set()
                rest = await response.text()
            assert 2 == len(generator.requests)  # no third generation
            assert "Hello" not in rest.split("in the middle")[0]
            assert whole.count("id: ") == rest.count("id: ") + int(last_id.rpartition(":")[2]) + 1

    asyncio.run(scenario())


def test_an_answer_that_is_over_is_kept_for_a_while() -> None:
    async def scenario() -> None:
        patience = Patience(grace_seconds=0.2)
        async with asking([*HELLO], patience=patience) as (http, _):
            async with http.post(PATH, json=CHAT) as response:
                whole = await response.text()
            answer_id = whole.removeprefix("id: ").partition(":")[0]
            path = f"{PATH}/{answer_id}/events"
            assert (200, whole) == await text_after(http, path)
            last = whole.rpartition("id: ")[2]
            assert (200, f": keepalive\nid: {last}") == await text_after(
                http, path + f"?starting_after={int(last.partition(chr(10))[0].split(':')[1]) - 1}"
            )
            await asyncio.sleep(0.3)
            status, told = await text_after(http, path)
            assert 404 == status
            assert "answer_not_kept" in told

    asyncio.run(scenario())


def test_a_client_that_has_had_all_gets_an_end() -> None:
    async def scenario() -> None:
        async with asking([*HELLO]) as (http, _):
            async with http.post(PATH, json=CHAT) as response:
                last_id = (await response.text()).rpartition("id: ")[2].partition("\n")[0]
            async with http.post(PATH, json=CHAT, headers={"Last-Event-ID": last_id}) as response:
                assert (200, ": keepalive\n") == (response.status, await response.text())

    asyncio.run(scenario())


def test_an_answer_is_there_for_its_own_key_alone() -> None:
    async def scenario() -> None:
        async with asking([HELLO[0], asyncio.Event()]) as (http, _):
            last_id = await begin_and_break(http, Authorization="Bearer mine")
            path = f"{PATH}/{last_id.partition(':')[0]}/events"
            for key in ({}, {"Authorization": "Bearer other"}, {"X-Api-Key": "mine"}):
                assert 404 == (await text_after(http, path, **key))[0]
                again = {"Last-Event-ID": last_id, **key}
                async with http.post(PATH, json=CHAT, headers=again) as response:
                    assert 404 == response.status
                assert 404 == (await http.delete(path.removesuffix("/events"), headers=key)).status
            mine = {"Authorization": "Bearer mine"}
            async with http.get(path, headers=mine) as response:
                assert 200 == response.status

    asyncio.run(scenario())


def test_closing_is_cancelling_for_a_client_that_does_not_come_back() -> None:
    async def scenario() -> None:
        async with asking([HELLO[0], asyncio.Event()]) as (http, generator):
            last_id = await begin_and_break(http, Accept="application/json")
            await asyncio.wait_for(generator.was_cancelled.wait(), 5)
            async with http.post(PATH, json=CHAT, headers={"Last-Event-ID": last_id}) as response:
                error = (await response.json())["error"]
                assert (404, "answer_not_kept") == (response.status, error["code"])
                assert "text/event-stream" in error["message"]

    asyncio.run(scenario())


def test_a_client_that_does_not_come_back_in_time_has_its_answer_ended() -> None:
    async def scenario() -> None:
        patience = Patience(grace_seconds=0.05)
        async with asking([HELLO[0], asyncio.Event()], patience=patience) as (http, generator):
            await begin_and_break(http)
            await asyncio.wait_for(generator.was_cancelled.wait(), 5)
            assert 0 == generator.num_running

    asyncio.run(scenario())


def test_an_answer_without_a_reader_gives_its_place_to_a_request_that_waits() -> None:
    async def scenario() -> None:
        verifier = ScriptedGenerator([HELLO[0], asyncio.Event()], max_streams=1)
        generator = QueuedGenerator(verifier, LineLimits())
        options: Any = {"num_waiting": lambda: generator.num_waiting}
        async with serving(generator, **options) as url, aiohttp.ClientSession(url) as http:
            await begin_and_break(http)
            async with asyncio.timeout(5):
                await begin_and_break(http)

    asyncio.run(scenario())


def test_few_answers_are_kept_and_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_streams, "MAX_KEPT_STREAMS", 2)

    async def scenario() -> None:
        async with asking([HELLO[0], asyncio.Event()]) as (http, generator):
            ids = []
            for number in range(3):
                ids.append(await begin_and_break(http))
                await eventually(lambda number=number: generator.num_running <= min(number + 1, 2))
            await eventually(lambda: 2 == generator.num_running)
            statuses = []
            for last_id in ids:
                path = f"{PATH}/{last_id.partition(':')[0]}/events"
                async with http.get(path) as response:
                    statuses.append(response.status)
            assert [404, 200, 200] == statuses

    asyncio.run(scenario())


def test_answers_take_no_more_than_so_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_streams, "MAX_KEPT_BYTES", 20_000)

    async def scenario() -> None:
        async with asking([TextPiece("x", "target")] * 1000) as (http, _):
            async with http.post(PATH, json=CHAT) as response:
                whole = await response.text()
            assert 1000 == whole.count('"content":"x"')  # its reader missed nothing
            answer_id = whole.removeprefix("id: ").partition(":")[0]
            assert 404 == (await text_after(http, f"{PATH}/{answer_id}/events"))[0]

    asyncio.run(scenario())


@pytest.mark.parametrize("is_failure", [False, True])
def test_of_a_failure_at_once_nothing_is_kept(is_failure: bool) -> None:
    stream = KeptStream(MessageAnswer("msg_1", "model", ()), owner=b"", comes_back=True)
    assert stream.is_worth_keeping
    stream.log.failure = internal_failure() if is_failure else None
    stream.log.end()
    assert is_failure is not stream.is_worth_keeping


def test_an_answer_can_be_stopped_by_its_id() -> None:
    async def scenario() -> None:
        async with asking([HELLO[0], asyncio.Event()]) as (http, generator):
            last_id = await begin_and_break(http)
            path = f"{PATH}/{last_id.partition(':')[0]}"
            async with http.delete(path) as response:
                assert (await response.json())["deleted"]
            await asyncio.wait_for(generator.was_cancelled.wait(), 5)
            assert 404 == (await text_after(http, f"{path}/events"))[0]

    asyncio.run(scenario())


def test_openais_client_takes_a_response_in_the_background_up_again() -> None:
    async def scenario() -> None:
        go_on = asyncio.Event()
        async with (
            serving(ScriptedGenerator([HELLO[0], go_on, *HELLO[1:]])) as url,
            AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client,
        ):
            stream = await client.responses.create(
                model="any", input="hi", stream=True, background=True
            )
            first = [await anext(stream) for _ in range(5)]
            assert "response.output_text.delta" == first[-1].type
            await stream.close()
            response_id = first[0].response.id  # type: ignore[union-attr]
            assert "in_progress" == (await client.responses.retrieve(response_id)).status
            go_on.set()
            rest = await client.responses.retrieve(
                response_id, stream=True, starting_after=first[-1].sequence_number
            )
            numbers = [event.sequence_number async for event in rest]
            assert [*range(5, 11)] == numbers
            whole = await client.responses.retrieve(response_id)
            assert ("completed", "Hello wide world") == (whole.status, whole.output_text)
            await client.responses.delete(response_id)

    asyncio.run(scenario())


def test_openais_client_cancels_a_response() -> None:
    async def scenario() -> None:
        generator = ScriptedGenerator([HELLO[0], asyncio.Event()])
        async with (
            serving(generator) as url,
            AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client,
        ):
            asked: Any = {"model": "any", "input": "hi", "stream": True, "background": True}
            stream = await client.responses.create(**asked)
            created = await anext(stream)
            cancelled = await client.responses.cancel(created.response.id)
            assert "cancelled" == cancelled.status
            await asyncio.wait_for(generator.was_cancelled.wait(), 5)
            await stream.close()

    asyncio.run(scenario())
