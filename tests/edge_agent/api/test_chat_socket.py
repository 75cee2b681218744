"""The chat socket over a real loopback websocket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType

from edge_agent.api import kept_answers
from edge_agent.generation.chat_messages import MAX_CLIENT_MESSAGE_BYTES
from edge_agent.generation.generation import TextPiece, Timings
from edge_agent.generation.scripted_generator import ScriptedGenerator, Step
from shared.errors import RequestRefused, VerifierAway
from shared.protocol.messages import ChatMessage
from tests.support.ends.api_server import HELLO, serving
from tests.support.ends.waiting import eventually
from tests.support.network.chaos_proxy import ChaosProxy, local

PATH = "/v1/chat/socket"
GENERATE = {"type": "generate", "messages": [{"role": "user", "content": "hi"}]}
CANCEL = {"type": "cancel"}
TIMINGS = Timings(5, 0, 4, 3, 2, 1, 2, 2, 0.2, 0.5, 48, 2, 1)
TEXTS = [{"type": "text", "text": piece.text, "origin": piece.origin} for piece in HELLO]


@asynccontextmanager
async def chatting(
    script: Sequence[Step] = HELLO,
) -> AsyncIterator[tuple[ClientWebSocketResponse, ScriptedGenerator]]:
    generator = ScriptedGenerator(script)
    async with (
        serving(generator) as url,
        aiohttp.ClientSession(url) as http,
        http.ws_connect(PATH) as socket,
    ):
        yield socket, generator


async def begin(socket: ClientWebSocketResponse) -> str:
    """Ask for an answer; its id."""
    await socket.send_json(GENERATE)
    started = await socket.receive_json(timeout=5)
    assert "started" == started["type"]
    return str(started["id"])


async def answer(socket: ClientWebSocketResponse) -> list[dict[str, Any]]:
    """The messages up to the end of one generation, without its start."""
    messages = [await socket.receive_json(timeout=5)]
    if messages[0]["type"] == "started":
        messages = [await socket.receive_json(timeout=5)]
    while messages[-1]["type"] == "text" or messages[-1].get("is_generating"):
        messages.append(await socket.receive_json(timeout=5))
    return messages


def test_an_answer_is_texts_with_their_origin_and_one_end() -> None:
    async def scenario() -> None:
        async with chatting() as (socket, _):
            await socket.send_json({**GENERATE, "seed": 5, "goodspeed": {"draft_length": 2}})
            *texts, finished = await answer(socket)
            assert TEXTS == texts
            assert ("finished", "end", 5, "rejection", 3, 1) == (
                finished["type"],
                finished["reason"],
                finished["seed"],
                finished["acceptance_mode"],
                finished["timings"]["output_tokens"],
                finished["timings"]["accepted_tokens"],
            )

    asyncio.run(scenario())


def test_request_fields_are_those_of_a_chat_request() -> None:
    async def scenario() -> None:
        async with chatting() as (socket, generator):
            await socket.send_json({**GENERATE, "temperature": 0, "max_tokens": 2, "stop": "x"})
            assert "length" == (await answer(socket))[-1]["reason"]
            (request,) = generator.requests
            assert (0, 2, ("x",)) == (
                request.sampling.temperature,
                request.max_tokens,
                request.stop,
            )
            assert (ChatMessage("user", "hi"),) == request.messages

    asyncio.run(scenario())


def test_many_answers_come_one_after_the_other() -> None:
    async def scenario() -> None:
        async with chatting() as (socket, _):
            for _round in range(3):
                await socket.send_json(GENERATE)
                assert TEXTS == (await answer(socket))[:-1]

    asyncio.run(scenario())


def test_a_second_request_meanwhile_is_refused_and_the_first_goes_on() -> None:
    async def scenario() -> None:
        go_on = asyncio.Event()
        async with chatting([go_on, *HELLO]) as (socket, _):
            await begin(socket)
            await socket.send_json(GENERATE)
            refused = await socket.receive_json(timeout=5)
            assert ("error", True) == (refused["type"], refused["is_generating"])
            go_on.set()
            assert "finished" == (await answer(socket))[-1]["type"]

    asyncio.run(scenario())


def test_cancel_ends_the_answer_and_the_socket_goes_on() -> None:
    async def scenario() -> None:
        async with chatting([TextPiece("Hel", "target"), asyncio.Event()]) as (socket, generator):
            await begin(socket)
            await socket.receive_json(timeout=5)
            await socket.send_json(CANCEL)
            (finished,) = await answer(socket)
            assert ("finished", "cancelled", None) == (
                finished["type"],
                finished["reason"],
                finished["timings"],
            )
            assert 0 == generator.num_running
            generator.script = HELLO
            await socket.send_json(GENERATE)
            assert TEXTS == (await answer(socket))[:-1]

    asyncio.run(scenario())


def test_a_late_or_idle_cancel_is_ignored() -> None:
    async def scenario() -> None:
        async with chatting() as (socket, _):
            await socket.send_json(CANCEL)
            await socket.send_json(GENERATE)
            await answer(socket)
            await socket.send_json(CANCEL)
            await socket.send_json(GENERATE)
            assert TEXTS == (await answer(socket))[:-1]

    asyncio.run(scenario())


def test_leaving_cancels_the_generation() -> None:
    async def scenario() -> None:
        async with chatting([asyncio.Event()]) as (socket, generator):
            await socket.send_json(GENERATE)
            await generator.was_asked.wait()
            await socket.close(code=1000)
            async with asyncio.timeout(5):
                await generator.was_cancelled.wait()

    asyncio.run(scenario())


def test_a_page_that_is_loaded_again_finds_its_answer() -> None:
    """Browsers leave with code 1001, whether they come back or not."""

    async def scenario() -> None:
        gate = asyncio.Event()
        generator = ScriptedGenerator([HELLO[0], gate, *HELLO[1:]])
        async with serving(generator) as url, aiohttp.ClientSession(url) as http:
            async with http.ws_connect(PATH) as socket:
                answer_id = await begin(socket)
                await socket.receive_json(timeout=5)
                await socket.close(code=1001)
            gate.set()
            async with http.ws_connect(PATH) as socket:
                await socket.send_json({"type": "resume", "id": answer_id})
                *texts, finished = await answer(socket)
                assert (TEXTS, "end") == (texts, finished["reason"])

    asyncio.run(scenario())


def test_why_a_token_is_the_targets_own_is_told_and_of_the_figures_the_newest() -> None:
    async def scenario() -> None:
        early, late = (TIMINGS, msgspec.structs.replace(TIMINGS, output_tokens=9))
        script = [
            TextPiece("a", "target", "alone", early),
            TextPiece("b", "accepted"),
            TextPiece("c", "target", "bonus", late),
        ]
        async with chatting(script) as (socket, _):
            await socket.send_json(GENERATE)
            *texts, _finished = await answer(socket)
            assert [
                {"type": "text", "text": "a", "origin": "target", "reason": "alone"},
                {"type": "text", "text": "b", "origin": "accepted"},
                {"type": "text", "text": "c", "origin": "target", "reason": "bonus"},
            ] == [{k: v for k, v in text.items() if k != "so_far"} for text in texts]
            assert 9 == texts[-1]["so_far"]["output_tokens"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ('{"type": "resume"}', "id"),
        ('{"type": "resume", "id": 5}', "id"),
        ('{"type": "resume", "id": "-5"}', "id"),
        ('{"type": "resume", "id": "9223372036854775808"}', "id"),
        ('{"type": "resume", "id": "5", "num_characters": -1}', "num_characters"),
        ("{", None),
        ("[]", None),
        ("{}", "type"),
        ('{"type": "generated"}', "type"),
        ('{"type": ["generate"]}', "type"),
        ('{"type": "generate"}', "messages"),
        ('{"type": "generate", "messages": [{"role": "user", "content": "hi"}], "n": 3}', "n"),
    ],
)
def test_a_bad_message_is_one_error_and_changes_nothing_else(sent: str, param: str | None) -> None:
    async def scenario() -> None:
        async with chatting() as (socket, _):
            await socket.send_str(sent)
            (refused,) = await answer(socket)
            assert ("error", param) == (refused["type"], refused["param"])
            await socket.send_json(GENERATE)
            assert TEXTS == (await answer(socket))[:-1]

    asyncio.run(scenario())


def test_a_binary_message_is_an_error() -> None:
    async def scenario() -> None:
        async with chatting() as (socket, _):
            await socket.send_bytes(b"\x00")
            assert "only text messages are understood" == (await answer(socket))[0]["message"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("error", "param"),
    [
        (VerifierAway("the verifier is away"), None),
        (RequestRefused("too long", "messages"), "messages"),
    ],
)
def test_a_failed_generation_is_an_error(
    error: VerifierAway | RequestRefused, param: str | None
) -> None:
    async def scenario() -> None:
        async with chatting([error]) as (socket, _):
            await socket.send_json(GENERATE)
            (failed,) = await answer(socket)
            assert (str(error), param, False) == (
                failed["message"],
                failed["param"],
                failed["is_generating"],
            )

    asyncio.run(scenario())


def test_a_bug_of_ours_is_an_error_without_details() -> None:
    async def scenario() -> None:
        class BrokenGenerator(ScriptedGenerator):
            async def generate(self, request: Any) -> AsyncIterator[Any]:
                yield HELLO[0]
                raise ZeroDivisionError("secret")

        async with (
            serving(BrokenGenerator(())) as url,
            aiohttp.ClientSession(url) as http,
            http.ws_connect(PATH) as socket,
        ):
            await socket.send_json(GENERATE)
            assert "the agent failed; its log says why" == (await answer(socket))[-1]["message"]

    asyncio.run(scenario())


def test_too_long_a_message_closes_the_socket() -> None:
    async def scenario() -> None:
        async with chatting() as (socket, _):
            await socket.send_str("x" * (MAX_CLIENT_MESSAGE_BYTES + 1))
            closed = await socket.receive(timeout=5)
            assert (WSMsgType.CLOSE, 1009) == (closed.type, closed.data)

    asyncio.run(scenario())


def test_a_stopping_agent_says_goodbye() -> None:
    async def scenario() -> None:
        async with aiohttp.ClientSession() as http:
            async with serving(ScriptedGenerator([asyncio.Event()])) as url:
                socket = await http.ws_connect(url + PATH)
                await begin(socket)
                receiving = asyncio.create_task(socket.receive(timeout=5))
            closed = await receiving
            assert (WSMsgType.CLOSE, 1001) == (closed.type, closed.data)

    asyncio.run(scenario())


def test_a_foreign_page_may_not_connect() -> None:
    async def scenario() -> None:
        async with serving(ScriptedGenerator(HELLO)) as url, aiohttp.ClientSession(url) as http:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await http.ws_connect(PATH, origin="https://evil.example")
            assert 403 == refused.value.status

    asyncio.run(scenario())


def test_a_page_brings_its_token_as_a_subprotocol() -> None:
    async def scenario() -> None:
        generator = ScriptedGenerator(HELLO)
        protocols = ("goodspeed.chat", "goodspeed.bearer.secret")
        async with (
            serving(generator, api_token="secret") as url,
            aiohttp.ClientSession(url) as http,
            http.ws_connect(PATH, origin=url, protocols=protocols) as socket,
        ):
            assert "goodspeed.chat" == socket.protocol
            await socket.send_json(GENERATE)
            assert TEXTS == (await answer(socket))[:-1]

    asyncio.run(scenario())


# --- sockets that break ---------------------------------------------------------------------------

SENTENCE = (
    TextPiece("Once upon", "target"),
    TextPiece(" a tïme", "accepted"),
    TextPiece(" there", "target"),
    TextPiece(" was", "accepted"),
)
WHOLE = "".join(piece.text for piece in SENTENCE)


@asynccontextmanager
async def breaking(
    script: Sequence[Step],
) -> AsyncIterator[tuple[ChaosProxy, aiohttp.ClientSession, ScriptedGenerator]]:
    """An agent behind a proxy that can reset what goes through it."""
    generator = ScriptedGenerator(script)
    async with serving(generator) as url:
        port = int(url.rpartition(":")[2])
        async with (
            ChaosProxy(local(port)) as proxy,
            aiohttp.ClientSession(f"http://{proxy.address}") as http,
        ):
            yield proxy, http, generator


async def cut_off(proxy: ChaosProxy, http: aiohttp.ClientSession, num_texts: int) -> str:
    """Begin an answer and lose the socket after so many texts; its id."""
    async with http.ws_connect(PATH) as socket:
        answer_id = await begin(socket)
        for _ in range(num_texts):
            await socket.receive_json(timeout=5)
        proxy.reset()
        while (await socket.receive(timeout=5)).type is WSMsgType.TEXT:
            pass
    return answer_id


async def rest(http: aiohttp.ClientSession, answer_id: str, known: str) -> tuple[str, Any]:
    """What comes after the known text, and the end."""
    async with http.ws_connect(PATH) as socket:
        resume = {"type": "resume", "id": answer_id, "num_characters": len(known)}
        await socket.send_json(resume)
        *texts, end = await answer(socket)
        return "".join(text["text"] for text in texts), end


@pytest.mark.parametrize("num_known", range(len(WHOLE) + 1))
def test_a_client_that_lost_its_socket_gets_exactly_the_rest(num_known: int) -> None:
    async def scenario() -> None:
        go_on = asyncio.Event()
        script = [*SENTENCE[:2], go_on, *SENTENCE[2:]]
        async with breaking(script) as (proxy, http, generator):
            answer_id = await cut_off(proxy, http, 2)
            go_on.set()
            text, end = await rest(http, answer_id, WHOLE[:num_known])
            assert WHOLE[num_known:] == text
            assert ("finished", "end", 4) == (
                end["type"],
                end["reason"],
                end["timings"]["output_tokens"],
            )
            assert (1, []) == (len(generator.requests), generator.resumed)

    asyncio.run(scenario())


def test_a_socket_may_break_again_and_again() -> None:
    async def scenario() -> None:
        gates = [asyncio.Event() for _ in SENTENCE]
        script = [step for pair in zip(gates, SENTENCE, strict=True) for step in pair]
        async with breaking(script) as (proxy, http, generator):
            answer_id = await cut_off(proxy, http, 0)
            known = ""
            for gate, piece in zip(gates, SENTENCE, strict=True):
                async with http.ws_connect(PATH) as socket:
                    resume = {"type": "resume", "id": answer_id, "num_characters": len(known)}
                    await socket.send_json(resume)
                    assert "started" == (await socket.receive_json(timeout=5))["type"]
                    gate.set()
                    known += (await socket.receive_json(timeout=5))["text"]
                    assert known.endswith(piece.text)
                    proxy.reset()
            text, end = await rest(http, answer_id, known)
            assert ("", "finished") == (text, end["type"])
            assert 0 == generator.num_running

    asyncio.run(scenario())


def test_the_id_is_the_name_of_the_stream() -> None:
    async def scenario() -> None:
        async with chatting() as (socket, generator):
            answer_id = await begin(socket)
            await answer(socket)
            assert str(generator.requests[0].stream_id) == answer_id

    asyncio.run(scenario())


def test_an_answer_that_was_read_to_its_end_can_be_read_again_for_a_while() -> None:
    async def scenario() -> None:
        async with chatting() as (socket, generator):
            answer_id = await begin(socket)
            await answer(socket)
            for _ in range(2):
                await socket.send_json({"type": "resume", "id": answer_id})
                assert TEXTS == (await answer(socket))[:-1]
            assert 1 == len(generator.requests)

    asyncio.run(scenario())


def test_an_answer_from_before_the_restart_of_the_agent_comes_from_the_verifier() -> None:
    async def scenario() -> None:
        async with breaking(SENTENCE) as (_, http, generator):
            text, end = await rest(http, "77", WHOLE[:12])
            assert (WHOLE[12:], "finished", None) == (text, end["type"], end["timings"])
            assert [77] == generator.resumed

    asyncio.run(scenario())


def test_an_answer_that_nobody_knows_is_one_error() -> None:
    async def scenario() -> None:
        error = RequestRefused("this verifier does not have the stream any more", "id")
        async with breaking([error]) as (_, http, _generator):
            text, end = await rest(http, "77", "")
            assert ("", str(error), "id") == (text, end["message"], end["param"])

    asyncio.run(scenario())


def test_nobody_has_more_of_an_answer_than_there_is() -> None:
    async def scenario() -> None:
        async with chatting() as (socket, _):
            answer_id = await begin(socket)
            await answer(socket)
            message = {"type": "resume", "id": answer_id, "num_characters": 20}
            await socket.send_json(message)
            (refused,) = await answer(socket)
            sentence = "num_characters goes 4 beyond the end of the answer"
            assert (sentence, "num_characters") == (refused["message"], refused["param"])

    asyncio.run(scenario())


def test_a_client_that_does_not_come_back_keeps_the_board_busy_for_a_while_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kept_answers, "GRACE_SECONDS", 0.05)

    async def scenario() -> None:
        async with breaking([SENTENCE[0], asyncio.Event()]) as (proxy, http, generator):
            answer_id = await cut_off(proxy, http, 1)
            async with asyncio.timeout(5):
                await generator.was_cancelled.wait()
            generator.script = (RequestRefused("gone", "id"),)
            assert "gone" == (await rest(http, answer_id, ""))[1]["message"]

    asyncio.run(scenario())


def test_only_a_few_answers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_answers, "MAX_KEPT_ANSWERS", 2)

    async def scenario() -> None:
        async with breaking([SENTENCE[0], asyncio.Event()]) as (proxy, http, generator):
            for _ in range(4):
                await cut_off(proxy, http, 1)
            await eventually(lambda: generator.num_running == 2)

    asyncio.run(scenario())


def test_a_newer_socket_takes_an_answer_over() -> None:
    async def scenario() -> None:
        go_on = asyncio.Event()
        async with (
            breaking([SENTENCE[0], go_on, *SENTENCE[1:]]) as (_, http, generator),
            http.ws_connect(PATH) as older,
        ):
            answer_id = await begin(older)
            reading = asyncio.create_task(rest(http, answer_id, ""))
            *_, told = await answer(older)
            sentence = "the answer goes on at another connection of its client"
            assert (sentence, False) == (told["message"], told["is_generating"])
            await older.send_json(CANCEL)  # it is not the older one's any more
            go_on.set()
            assert WHOLE == (await reading)[0]
            await older.send_json(GENERATE)
            assert "finished" == (await answer(older))[-1]["type"]
            assert 2 == len(generator.requests)

    asyncio.run(scenario())


def test_a_stopping_agent_ends_answers_that_nobody_reads() -> None:
    async def scenario() -> None:
        async with breaking([SENTENCE[0], asyncio.Event()]) as (proxy, http, generator):
            await cut_off(proxy, http, 1)
            assert 1 == generator.num_running
        assert 0 == generator.num_running

    asyncio.run(scenario())
