"""The HTTP endpoints over real loopback sockets, asked by a plain HTTP client."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from edge_agent.api.answers.patience import Patience
from edge_agent.api.request_bodies import MAX_BODY_BYTES, MAX_LARGE_BODIES
from edge_agent.generation.generation import TextPiece
from edge_agent.generation.queued_generator import QueuedGenerator
from edge_agent.generation.scripted_generator import ScriptedGenerator, Step
from edge_agent.generation.waiting_line import LineLimits
from shared.errors import (
    GoodspeedError,
    HandshakeRejected,
    LinkLost,
    ModelError,
    RequestRefused,
    TooManyStreams,
    VerifierAway,
)
from tests.support.ends.api_server import HELLO, serving

CHAT = {"messages": [{"role": "user", "content": "hi"}]}
CHAT_PATH = "/v1/chat/completions"


@asynccontextmanager
async def asking(
    script: Sequence[Step] = HELLO, target_model: str | None = "target", **options: Any
) -> AsyncIterator[tuple[aiohttp.ClientSession, ScriptedGenerator]]:
    generator = ScriptedGenerator(script, target_model=target_model)
    async with serving(generator, **options) as url, aiohttp.ClientSession(url) as http:
        yield http, generator


async def ask(
    http: aiohttp.ClientSession, body: Any = CHAT, path: str = CHAT_PATH
) -> tuple[int, dict[str, Any]]:
    async with http.post(path, json=body) as response:
        return response.status, await response.json()


async def lines_of(response: aiohttp.ClientResponse) -> list[str]:
    """The events of a stream, without their ids."""
    return [event.partition("\n")[2] for event in (await response.text()).strip().split("\n\n")]


def error_of(line: str) -> dict[str, Any]:
    error = json.loads(line.removeprefix("data: "))["error"]
    assert isinstance(error, dict)
    return error


def test_health_tells_whether_there_is_a_verifier() -> None:
    async def health(target_model: str | None) -> Any:
        async with asking(target_model=target_model) as (http, _), http.get("/healthz") as response:
            return response.status, await response.json()

    expected = (200, {"status": "ok", "verifier_connected": True})
    assert expected == asyncio.run(health("target"))
    assert (200, {"status": "ok", "verifier_connected": False}) == asyncio.run(health(None))


def test_strangers_learn_no_more_than_that_the_board_is_well() -> None:
    async def health(**headers: str) -> Any:
        async with asking(api_token="secret", allowed_hosts=None) as (http, _):
            response = await http.get("/healthz", headers=headers)
            return await response.json()

    assert {"status": "ok"} == asyncio.run(health())
    told = asyncio.run(health(Authorization="Bearer secret"))
    assert {"status": "ok", "verifier_connected": True} == told


def test_through_a_proxy_a_board_without_a_token_is_open_to_nobody() -> None:
    async def status(**options: Any) -> int:
        headers = {"X-Forwarded-For": "203.0.113.9", "Authorization": "Bearer secret"}
        async with asking(**options) as (http, _):
            return (await http.get("/v1/models", headers=headers)).status

    assert 403 == asyncio.run(status())
    assert 200 == asyncio.run(status(api_token="secret"))


def test_the_models_are_the_target() -> None:
    async def ids(**options: Any) -> list[str]:
        async with asking(**options) as (http, _), http.get("/v1/models") as response:
            return [model["id"] for model in (await response.json())["data"]]

    assert ["target"] == asyncio.run(ids())
    assert [] == asyncio.run(ids(target_model=None))
    assert ["alias"] == asyncio.run(ids(model_id="alias"))


def test_a_chat_is_answered_with_mode_and_seed_in_the_headers() -> None:
    async def scenario() -> None:
        async with (
            asking() as (http, _),
            http.post(CHAT_PATH, json={**CHAT, "seed": 3}) as response,
        ):
            answer = await response.json()
            assert "Hello wide world" == answer["choices"][0]["message"]["content"]
            assert "target" == answer["model"]
            assert "3" == response.headers["x-goodspeed-seed"]
            assert "rejection" == response.headers["x-goodspeed-acceptance-mode"]

    asyncio.run(scenario())


@pytest.mark.parametrize("is_streamed", [False, True])
def test_what_is_ignored_is_named_in_a_header(is_streamed: bool) -> None:
    async def scenario() -> None:
        body = {**CHAT, "stream": is_streamed, "magic": 1, "user": "x"}
        async with asking() as (http, _), http.post(CHAT_PATH, json=body) as response:
            assert (200, "magic") == (response.status, response.headers["X-Goodspeed-Ignored"])
        async with asking() as (http, _), http.post(CHAT_PATH, json=CHAT) as response:
            assert "X-Goodspeed-Ignored" not in response.headers

    asyncio.run(scenario())


def test_a_plain_prompt_is_completed() -> None:
    async def scenario() -> None:
        async with asking() as (http, generator):
            status, answer = await ask(http, {"prompt": "Say", "max_tokens": 2}, "/v1/completions")
            expected = (200, "Hello wide", "length")
            choice = answer["choices"][0]
            assert expected == (status, choice["text"], choice["finish_reason"])
            assert "Say" == generator.requests[0].text

    asyncio.run(scenario())


def test_a_streamed_completion_ends_with_done() -> None:
    async def scenario() -> None:
        body = {"prompt": "Say", "stream": True}
        async with asking() as (http, _), http.post("/v1/completions", json=body) as response:
            *chunks, done = await lines_of(response)
            texts = [json.loads(chunk[6:])["choices"][0]["text"] for chunk in chunks]
            assert (["Hello", " wide", " world", ""], "data: [DONE]") == (texts, done)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/models/other", 404),
        ("GET", CHAT_PATH, 405),
        ("DELETE", "/v1/models", 405),
        ("GET", "/v1/chat/socket", 400),  # no upgrade
    ],
)
def test_everything_else_is_an_error_in_openais_shape(method: str, path: str, status: int) -> None:
    async def scenario() -> None:
        async with asking() as (http, _), http.request(method, path) as response:
            error = (await response.json())["error"]
            assert (status, ["message", "type", "param", "code"]) == (response.status, list(error))

    asyncio.run(scenario())


def test_wrong_paths_and_methods_are_told_the_right_ones() -> None:
    async def scenario() -> None:
        async with asking() as (http, _):
            _, body = await ask(http, CHAT, "/chat/completions")
            sentence = "unknown URL (POST /chat/completions): did you mean /v1/chat/completions?"
            assert sentence == body["error"]["message"]
            async with http.get(CHAT_PATH) as response:
                sentence = f"method GET is not allowed for {CHAT_PATH}; use POST"
                assert sentence == (await response.json())["error"]["message"]
                assert "POST" == response.headers["Allow"]

    asyncio.run(scenario())


def test_one_model_is_told_by_its_name() -> None:
    async def scenario() -> None:
        async with asking(target_model="org/target") as (http, _):
            async with http.get("/v1/models/org/target") as response:
                assert "org/target" == (await response.json())["id"]
            async with http.get("/v1/models/gpt-5") as response:
                error = (await response.json())["error"]
                assert (404, "model_not_found") == (response.status, error["code"])
                assert "this board serves org/target alone, not 'gpt-5'" == error["message"]

    asyncio.run(scenario())


def test_200_requests_at_once_are_answered_or_told_to_come_back() -> None:
    """None is reset: neither its connection, nor its body, nor its place in line is lost."""

    async def scenario() -> None:
        verifier = ScriptedGenerator(HELLO, seconds_per_piece=0.002, max_streams=8)
        generator = QueuedGenerator(verifier, LineLimits(max_requests=64))
        connector = aiohttp.TCPConnector(limit=0)

        async def post(http: aiohttp.ClientSession, number: int) -> int:
            body = {**CHAT, "stream": number % 2 == 0}
            async with http.post(CHAT_PATH, json=body) as response:
                text = await response.text()
                assert ("world" in text) is (200 == response.status)
                assert ("Retry-After" in response.headers) is (429 == response.status)
                return response.status

        async with (
            serving(generator) as url,
            aiohttp.ClientSession(url, connector=connector) as http,
        ):
            statuses = await asyncio.gather(*(post(http, number) for number in range(200)))
        assert {200, 429} == set(statuses)
        assert 72 <= statuses.count(200)
        assert 8 == verifier.most_running

    asyncio.run(scenario())


def test_comments_keep_a_request_alive_that_waits_in_line() -> None:
    async def scenario() -> None:
        go_on = asyncio.Event()
        generator = QueuedGenerator(ScriptedGenerator([go_on, *HELLO], max_streams=1), LineLimits())
        body = {**CHAT, "stream": True}
        async with (
            serving(
                generator,
                patience=Patience(keepalive_seconds=0.01),
                place_of=generator.place_of,
            ) as url,
            aiohttp.ClientSession(url) as http,
            http.post(CHAT_PATH, json=body) as first,
            http.post(CHAT_PATH, json=body) as second,
            http.post(CHAT_PATH, json=body) as third,
        ):
            told = [await one.content.readuntil(b"\n") for one in (third, first, second)]
            assert [
                b": keepalive, 1 requests ahead\n",
                b": keepalive\n",
                b": keepalive, 0 requests ahead\n",
            ] == told
            go_on.set()
            for response in (first, second, third):
                assert "data: [DONE]" == (await lines_of(response))[-1]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("error", "status", "param"),
    [
        (RequestRefused("too long", "max_tokens"), 400, "max_tokens"),
        (TooManyStreams("the device has 4 streams already"), 429, None),
        (VerifierAway("the verifier is away"), 503, None),
        (HandshakeRejected("another vocabulary"), 502, None),
        (ModelError("the model failed"), 502, None),
    ],
)
@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_failure_before_the_first_byte_is_a_status(
    error: GoodspeedError,
    status: int,
    param: str | None,
    is_streamed: bool,
) -> None:
    async def scenario() -> None:
        async with asking([error]) as (http, _):
            got, body = await ask(http, {**CHAT, "stream": is_streamed})
            expected = (status, str(error), param)
            assert expected == (got, body["error"]["message"], body["error"]["param"])

    asyncio.run(scenario())


def test_a_503_says_when_to_come_back() -> None:
    async def scenario() -> None:
        async with (
            asking([VerifierAway("away")]) as (http, _),
            http.post(CHAT_PATH, json=CHAT) as response,
        ):
            assert 1 <= int(response.headers["Retry-After"])

    asyncio.run(scenario())


def test_a_refusal_by_the_verifier_is_not_worth_another_try() -> None:
    async def scenario() -> None:
        async with (
            asking([HandshakeRejected("another vocabulary")]) as (http, _),
            http.post(CHAT_PATH, json=CHAT) as response,
        ):
            assert "false" == response.headers["X-Should-Retry"]
            assert "verifier_refuses" == (await response.json())["error"]["code"]
            assert "Retry-After" not in response.headers

    asyncio.run(scenario())


def test_a_failure_in_mid_stream_is_an_event_and_the_stream_still_ends() -> None:
    async def scenario() -> None:
        script: list[Step] = [TextPiece("Hel", "target"), LinkLost("the verifier left")]
        async with (
            asking(script) as (http, _),
            http.post(CHAT_PATH, json={**CHAT, "stream": True}) as response,
        ):
            *_, failure, done = await lines_of(response)
            assert (200, "the verifier left", "data: [DONE]") == (
                response.status,
                error_of(failure)["message"],
                done,
            )

    asyncio.run(scenario())


class BrokenGenerator(ScriptedGenerator):
    """Has a bug that shows after the pieces of its script."""

    async def generate(self, request: Any) -> AsyncIterator[Any]:
        for step in self.script:
            yield step
        raise ZeroDivisionError("secret detail")


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_bug_of_ours_is_a_500_without_details(is_streamed: bool) -> None:
    async def scenario() -> None:
        async with serving(BrokenGenerator(())) as url, aiohttp.ClientSession(url) as http:
            status, body = await ask(http, {**CHAT, "stream": is_streamed})
            assert (500, "the agent failed; its log says why") == (status, body["error"]["message"])

    asyncio.run(scenario())


def test_a_bug_in_mid_stream_is_an_event_without_details() -> None:
    async def scenario() -> None:
        async with (
            serving(BrokenGenerator(HELLO)) as url,
            aiohttp.ClientSession(url) as http,
            http.post(CHAT_PATH, json={**CHAT, "stream": True}) as response,
        ):
            *_, failure, _done = await lines_of(response)
            assert "internal" == error_of(failure)["code"]

    asyncio.run(scenario())


def test_comments_keep_a_silent_stream_alive() -> None:
    async def scenario() -> None:
        go_on = asyncio.Event()
        async with (
            asking([go_on, *HELLO], patience=Patience(keepalive_seconds=0.01)) as (http, _),
            http.post(CHAT_PATH, json={**CHAT, "stream": True}) as response,
        ):
            assert b": keepalive\n" == await response.content.readline()
            go_on.set()
            assert "data: [DONE]" == (await lines_of(response))[-1]

    asyncio.run(scenario())


def test_a_failure_after_a_comment_is_an_event() -> None:
    async def scenario() -> None:
        go_on = asyncio.Event()
        script: list[Step] = [go_on, VerifierAway("away")]
        async with (
            asking(script, patience=Patience(keepalive_seconds=0.01)) as (http, _),
            http.post(CHAT_PATH, json={**CHAT, "stream": True}) as response,
        ):
            await response.content.readline()
            go_on.set()
            *_, failure, _done = await lines_of(response)
            assert "verifier_away" == error_of(failure)["code"]

    asyncio.run(scenario())


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_client_that_leaves_cancels_its_generation(is_streamed: bool) -> None:
    async def scenario() -> None:
        generator = ScriptedGenerator([asyncio.Event()])
        async with serving(generator) as url:
            async with aiohttp.ClientSession(url) as http:
                asked = asyncio.create_task(ask(http, {**CHAT, "stream": is_streamed}))
                await generator.was_asked.wait()
                asked.cancel()
                await asyncio.wait({asked})
            async with asyncio.timeout(5):
                await generator.was_cancelled.wait()

    asyncio.run(scenario())


def test_a_prompt_of_megabytes_is_taken_and_a_few_such_bodies_come_at_once() -> None:
    async def scenario() -> None:
        generator = ScriptedGenerator(HELLO)
        content = "x" * (2 << 20)
        asked = json.dumps({"messages": [{"role": "user", "content": content}]}).encode()

        async def post(http: aiohttp.ClientSession) -> int:
            async with http.post(CHAT_PATH, data=io.BytesIO(asked)) as response:
                return response.status

        async with serving(generator) as url, aiohttp.ClientSession(url) as http:
            answers = await asyncio.gather(*(post(http) for _ in range(2 * MAX_LARGE_BODIES)))
        assert [200] * 2 * MAX_LARGE_BODIES == answers
        prompts = [request.messages[0].content for request in generator.requests]
        assert [content] * 2 * MAX_LARGE_BODIES == prompts

    asyncio.run(scenario())


def test_a_body_beyond_the_limit_is_a_413() -> None:
    async def too_long() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 65536 + 1):
            yield bytes(65536)

    async def scenario() -> None:
        async with asking() as (http, _):
            for body in (io.BytesIO(bytes(MAX_BODY_BYTES + 1)), too_long()):
                async with http.post(CHAT_PATH, data=body) as response:
                    assert 413 == response.status
                    message = (await response.json())["error"]["message"]
                    assert f"Maximum request body size {MAX_BODY_BYTES} exceeded" in message

    asyncio.run(scenario())


def test_a_slow_body_is_a_408() -> None:
    async def scenario() -> None:
        generator = ScriptedGenerator(HELLO)
        async with serving(generator, patience=Patience(body_seconds=0.05)) as url:
            host, port = url.removeprefix("http://").split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            head = f"POST {CHAT_PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100\r\n\r\n"
            writer.write(head.encode() + b'{"mess')
            assert b"HTTP/1.1 408 Request Timeout\r\n" == await reader.readline()
            writer.close()
            await writer.wait_closed()

    asyncio.run(scenario())


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 10_000])
def test_a_body_that_is_no_json_object_is_a_400(body: bytes) -> None:
    async def scenario() -> None:
        async with asking() as (http, _), http.post(CHAT_PATH, data=body) as response:
            assert (400, True) == (response.status, "error" in await response.json())

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/healthz", {}, 200),
        ("/health", {}, 200),
        ("/v1/models", {}, 401),
        ("/v1/chat/socket", {}, 401),
        ("/nothing", {}, 401),
        ("/v1/models", {"Authorization": "Bearer wrong"}, 401),
        ("/v1/models", {"Authorization": "Bearer secret"}, 200),
        ("/v1/models", {"X-Api-Key": "secret"}, 200),
    ],
)
def test_a_token_is_wanted_everywhere_but_for_health(
    path: str, headers: dict[str, str], status: int
) -> None:
    async def scenario() -> None:
        async with (
            asking(api_token="secret") as (http, _),
            http.get(path, headers=headers) as response,
        ):
            assert status == response.status

    asyncio.run(scenario())


def test_without_a_token_any_key_will_do() -> None:
    async def scenario() -> None:
        headers = {"Authorization": "Bearer DUMMY_KEY"}
        async with asking() as (http, _), http.get("/v1/models", headers=headers) as response:
            assert 200 == response.status

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}]
)
def test_a_foreign_page_gets_nothing(headers: dict[str, str]) -> None:
    async def scenario() -> None:
        async with (
            asking() as (http, generator),
            http.post(CHAT_PATH, json=CHAT, headers=headers) as response,
        ):
            assert (403, []) == (response.status, generator.requests)

    asyncio.run(scenario())


def test_the_boards_own_page_may_ask() -> None:
    async def scenario() -> None:
        async with asking() as (http, _):
            headers = {"Origin": str(http._base_url).rstrip("/")}
            async with http.post(CHAT_PATH, json=CHAT, headers=headers) as response:
                assert 200 == response.status

    asyncio.run(scenario())


def test_beyond_loopback_any_name_will_do() -> None:
    async def scenario() -> None:
        headers = {"Host": "pi5-kitchen:8090"}
        async with (
            asking(allowed_hosts=None) as (http, _),
            http.get("/v1/models", headers=headers) as response,
        ):
            assert 200 == response.status

    asyncio.run(scenario())
