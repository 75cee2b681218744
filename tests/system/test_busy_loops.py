"""No callback holds an event loop up, whatever a client sends: the largest of each kind, both ends.

The limit is on processor time of the loop's thread, the least of a few tries: a busy machine makes
nothing longer than it is.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
import msgspec
import pytest

from edge_agent.api.large_body import SHORT_BODY_BYTES
from edge_agent.api.request_bodies import MAX_BODY_BYTES
from edge_agent.generation.chat_messages import MAX_CLIENT_MESSAGE_BYTES
from edge_agent.generation.generation import TextPiece
from edge_agent.generation.scripted_generator import ScriptedGenerator
from shared.protocol.grammar import Grammar
from shared.protocol.messages import (
    MAX_CHAT_MESSAGES,
    MAX_DRAFT_TOKENS,
    MAX_STOP_BYTES,
    MAX_STOP_STRINGS,
    MAX_TOOLS,
    Cancel,
    ChatMessage,
    Draft,
    Error,
    Hello,
    Open,
    Opened,
    Resume,
    Verdict,
)
from shared.protocol.prompt_parts import cut_open
from shared.protocol.token_ids import pack_token_ids
from shared.speculation.sampling import GREEDY
from tests.support.ends.api_server import serving
from tests.support.ends.limits import make_device_limits
from tests.support.ends.loop_watch import LIMIT_SECONDS, LoopWatch, least_of_a_few
from tests.support.ends.loopback import Verifier, round_settings, running_verifier
from tests.support.ends.raw_board import RawBoard, hello_to, raw_board
from tests.support.ends.scripted import scripted_service
from tests.support.ends.waiting import eventually

CONTEXT_TOKENS = 32_768
MANY_BYTES = 250_000  # of one field: a message may have 256 KiB


def test_the_watch_sees_a_callback_that_computes_and_none_that_waits() -> None:
    async def scenario(watch: LoopWatch) -> None:
        await asyncio.sleep(0.05)
        time.sleep(0.05)  # noqa: ASYNC251 - it waits, which takes no processor
        assert watch.longest_seconds < 0.02
        began_at = time.thread_time()
        while time.thread_time() - began_at < 0.03:
            pass
        await asyncio.sleep(0)

    seconds, what = least_of_a_few(scenario)
    assert 0.03 <= seconds < 0.5
    assert "scenario" in what


# --- the verifier ---------------------------------------------------------------------------------


def stop_strings(kind: str) -> tuple[str, ...]:
    """As many and as long as may be, of a kind that an automaton may find hard."""
    drawn = random.Random(1)
    length = MAX_STOP_BYTES
    texts = {
        "one first byte each": lambda i: chr(97 + i) + "a" * (length - 1),
        "one last byte each": lambda i: "a" * (length - 1) + chr(97 + i),
        "of two letters": lambda _: "".join(drawn.choice("ab") for _ in range(length)),
        "wide": lambda i: (chr(0x1F600 + i) + chr(0x1F601 + i)) * (length // 8),
    }
    return tuple(texts[kind](i) for i in range(MAX_STOP_STRINGS))


def function(name: str, told: str) -> dict[str, Any]:
    """A tool."""
    parameters = {"type": "object", "description": told}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [function(f"f{i}", "[" * 300) for i in range(MAX_TOOLS)]
IDS = pack_token_ids([40] * (MANY_BYTES // 2))
LONG = pack_token_ids([40] * (CONTEXT_TOKENS - 10))
PLAIN = Open(0, 0, text="x", sampling=GREEDY, max_tokens=CONTEXT_TOKENS)
OPENS = {
    **{
        f"stop strings, {kind}": msgspec.structs.replace(
            PLAIN, stop=stop_strings(kind), committed=LONG
        )
        for kind in ("one first byte each", "one last byte each", "of two letters", "wide")
    },
    "committed tokens": msgspec.structs.replace(PLAIN, committed=LONG),
    "too many committed tokens": msgspec.structs.replace(PLAIN, committed=IDS),
    "a prompt of tokens": msgspec.structs.replace(PLAIN, prompt=LONG),
    "too many of a prompt": msgspec.structs.replace(PLAIN, prompt=IDS),
    "a text": msgspec.structs.replace(PLAIN, text="x" * MANY_BYTES),
    "many messages": msgspec.structs.replace(
        PLAIN, messages=(ChatMessage("user", "y" * 200),) * MAX_CHAT_MESSAGES
    ),
    "a grammar behind committed tokens": msgspec.structs.replace(
        PLAIN, grammar=Grammar("regex", "( [a-z]+)*"), committed=LONG
    ),
    "a grammar of one long text": msgspec.structs.replace(
        PLAIN, grammar=Grammar("lark", f'start: "{" bababa" * 9000}"')
    ),
    "an ambiguous grammar": msgspec.structs.replace(
        PLAIN, grammar=Grammar("lark", "start: s\ns: s s | / [a-z]+/ | s s s")
    ),
    "a grammar that is none": msgspec.structs.replace(PLAIN, grammar=Grammar("gbnf", "(" * 60_000)),
    "a call of many tools": msgspec.structs.replace(
        PLAIN,
        messages=(ChatMessage("user", "y"),),
        tools=json.dumps(TOOLS).encode(),
        must_call=tuple(tool["function"]["name"] for tool in TOOLS),
    ),
    "calls of one long tool": msgspec.structs.replace(
        PLAIN,
        messages=(ChatMessage("user", "y"),),
        tools=json.dumps([function("f", "z" * (MANY_BYTES // 2))]).encode(),
        must_call=("f",) * MAX_TOOLS,
    ),
    "stop strings too wide": msgspec.structs.replace(PLAIN, stop=("\U0001f600" * MAX_STOP_BYTES,)),
}


async def settled(board: RawBoard, channel: int) -> None:
    """The stream is refused, or open."""
    while True:
        message = await board.next()
        if isinstance(message, Error | Opened) and message.channel == channel:
            return


async def open_and_reopen(board: RawBoard, message: Open) -> None:
    """A stream, and another of its name while the first one runs."""
    for channel in range(2):
        await board.send(msgspec.structs.replace(message, channel=channel))
        await settled(board, channel)
    for channel in range(2):
        await board.send(Cancel(channel))


@pytest.mark.parametrize("name", OPENS)
def test_no_open_holds_the_verifier_up(name: str) -> None:
    async def scenario(watch: LoopWatch) -> None:
        service = scripted_service(context_tokens=CONTEXT_TOKENS)
        async with running_verifier(service) as verifier, raw_board(verifier, "board") as board:
            watch.restart()
            await open_and_reopen(board, OPENS[name])

    seconds, what = least_of_a_few(scenario)
    assert seconds < LIMIT_SECONDS, what


async def come_back(verifier: Verifier) -> None:
    """To a stream that is kept, with all that is known of it, and by its name alone."""
    message = OPENS["stop strings, of two letters"]
    async with raw_board(verifier, "board") as board:
        await board.send(message)
        await settled(board, 0)
    await eventually(lambda: verifier.service.devices["board"].outbox is None)
    async with raw_board(verifier, "board") as board:
        await board.send(message)
        await settled(board, 0)
    await eventually(lambda: verifier.service.devices["board"].outbox is None)
    async with raw_board(verifier, "board") as board:
        await board.send(Resume(0, message.stream_id))
        await settled(board, 0)
        assert isinstance(board.received[-1], Opened)


async def draft(verifier: Verifier) -> None:
    async with raw_board(verifier, "board") as board:
        await board.send(PLAIN)
        await board.next_of(Opened)
        verdict = await board.window()
        ids = pack_token_ids([40] * MAX_DRAFT_TOKENS)
        position = board.position_after(verdict)
        rows = b"\x01" * (MANY_BYTES - len(ids))
        for said in (Draft(0, position, 0, ids), Draft(0, position, 0, ids, 0, rows)):
            await board.send(said)
        await board.error(0)


async def greet_wrongly(verifier: Verifier) -> None:
    for hello in (
        msgspec.structs.replace(hello_to(verifier), fingerprint=b"\x01" * MANY_BYTES),
        Hello(1, "v" * 200, "\x1b" * 200),
    ):
        async with raw_board(verifier, "board", greets=False) as board:
            await board.send(hello)
            await board.ended()


async def say_nonsense(verifier: Verifier) -> None:
    deep = b"\x91" * MANY_BYTES
    wide = b"\xdc\x04\x00" + b"\xc0" * 1024
    for packed in (deep, wide, msgspec.msgpack.encode(["x" * MANY_BYTES])):
        async with raw_board(verifier, "board") as board:
            await board.send_packed(packed)
            await board.ended()


@pytest.mark.parametrize("say", [come_back, draft, greet_wrongly, say_nonsense])
def test_nothing_else_that_a_board_says_holds_the_verifier_up(
    say: Callable[[Verifier], Awaitable[None]],
) -> None:
    async def scenario(watch: LoopWatch) -> None:
        service = scripted_service(context_tokens=CONTEXT_TOKENS)
        async with running_verifier(service) as verifier:
            watch.restart()
            await say(verifier)

    seconds, what = least_of_a_few(scenario)
    assert seconds < LIMIT_SECONDS, what


LONGEST_CONTEXT = 131_072
NUM_LONG = 5  # streams that one device opens at once


def verifier_with_a_long_context() -> AbstractAsyncContextManager[Verifier]:
    """One that reads a whole prompt in a round; meanwhile there is time for much to come."""
    settings = msgspec.structs.replace(round_settings(), prefill_chunk_tokens=LONGEST_CONTEXT)
    limits = msgspec.structs.replace(settings.schedule.limits, max_round_tokens=2 * LONGEST_CONTEXT)
    schedule = msgspec.structs.replace(settings.schedule, limits=limits)
    settings = msgspec.structs.replace(settings, schedule=schedule, prefill_slowdown_limit=1e6)
    service = scripted_service(
        settings=settings,
        context_tokens=LONGEST_CONTEXT,
        num_blocks=(NUM_LONG + 1) * LONGEST_CONTEXT // 16,
        delay_seconds=lambda num_tokens: 0.2,
    )
    limits = make_device_limits(context_tokens=None, prompt_bytes=4 * LONGEST_CONTEXT)
    return running_verifier(service, device_limits=limits)


async def send_long(board: RawBoard, channel: int, prompt: bytes, committed: bytes = b"") -> None:
    asked = msgspec.structs.replace(
        PLAIN, channel=channel, stream_id=channel, text="", prompt=prompt, committed=committed
    )
    for part in cut_open(msgspec.structs.replace(asked, max_tokens=LONGEST_CONTEXT)):
        await board.send(part)


@pytest.mark.parametrize("num_committed", [LONGEST_CONTEXT - 40, LONGEST_CONTEXT // 2])
def test_no_open_in_parts_holds_the_verifier_up(num_committed: int) -> None:
    prompt = pack_token_ids([40] * (LONGEST_CONTEXT - 20 - num_committed))
    committed = pack_token_ids([41] * num_committed)

    async def scenario(watch: LoopWatch) -> None:
        async with verifier_with_a_long_context() as verifier, raw_board(verifier, "board") as on:
            watch.restart()
            await send_long(on, 0, prompt, committed)
            await settled(on, 0)
            await on.next_of(Verdict)

    seconds, what = least_of_a_few(scenario)
    assert seconds < LIMIT_SECONDS, what


def test_no_prompts_that_the_cache_holds_hold_the_verifier_up() -> None:
    """Each of their blocks has to be named to be found."""
    prompt = pack_token_ids([40] * (LONGEST_CONTEXT - 20))

    async def scenario(watch: LoopWatch) -> None:
        async with verifier_with_a_long_context() as verifier, raw_board(verifier, "board") as on:
            await send_long(on, 0, prompt)
            await on.next_of(Verdict)
            watch.restart()
            for channel in range(1, NUM_LONG):
                await send_long(on, channel, prompt)
            told: set[int] = set()
            while len(told) < NUM_LONG - 1:
                told.add((await on.next_of(Verdict)).channel)

    seconds, what = least_of_a_few(scenario)
    assert seconds < LIMIT_SECONDS, what


def test_no_page_of_metrics_holds_the_verifier_up() -> None:
    async def scenario(watch: LoopWatch) -> None:
        service = scripted_service()
        async with running_verifier(service) as verifier, aiohttp.ClientSession() as http:
            for i in range(1000):
                estimates = service.device(f"board-{i}").estimates
                estimates.positions.observe(40, 1)
                service.metrics.received(f"board-{i}", 1)
            await asyncio.sleep(0)  # making a thousand devices is no part of it
            watch.restart()
            async with http.get(f"http://127.0.0.1:{verifier.port}/metrics") as answer:
                assert 1_000_000 < len(await answer.read())

    seconds, what = least_of_a_few(scenario)
    assert seconds < LIMIT_SECONDS, what


# --- the agent ------------------------------------------------------------------------------------


SIZES = (SHORT_BODY_BYTES, MAX_BODY_BYTES)  # the most that the loop reads itself, and the most


def filled(size: int, start: bytes, part: bytes, end: bytes) -> bytes:
    return start + part * ((size - len(start) - len(end)) // len(part)) + end


def with_keys(size: int, start: bytes, end: bytes) -> bytes:
    keys = b",".join(b'"%x":[]' % i for i in range(size // 12))
    return start + keys + end


ASKED = b'{"messages":[{"role":"user","content":"x"}],'
TURN = {"role": "user", "content": "y" * 190}


def bodies(size: int) -> dict[str, bytes]:
    """The dearest of each kind with so many bytes."""
    return {
        "empty lists": filled(size, b'{"messages":[[]', b",[]", b"]}"),
        "empty objects": filled(size, b'{"messages":[{}', b",{}", b"]}"),
        "numbers": filled(size, b'{"messages":[1', b",1", b"]}"),
        "long numbers": filled(size, b'{"messages":[1', b"," + b"9" * 4000, b"]}"),
        "fractions": filled(size, b'{"messages":[1', b",1.12345678901234567", b"]}"),
        "strings": filled(size, b'{"messages":["a"', b',"bc"', b"]}"),
        "a text": filled(size, b'{"messages":[{"role":"user","content":"', b"abcdefg ", b'"}]}'),
        "escapes": filled(size, b'{"messages":[{"role":"user","content":"', b"\\u00e9", b'"}]}'),
        "half pairs": filled(size, b'{"messages":[{"role":"user","content":"', b"\\ud800", b'"}]}'),
        "half a pair": filled(size, b'{"messages":[[]', b",[]", b',"\\ud800"]}'),
        "brackets": filled(size, b'{"messages":', b"[", b""),
        "keys": with_keys(size, ASKED, b"}"),
        "keys of goodspeed": with_keys(size, ASKED + b'"goodspeed":{', b"}}"),
        "keys of options": with_keys(size, ASKED + b'"stream_options":{', b"}}"),
        "text parts": filled(
            size,
            b'{"messages":[{"role":"user","content":[{"type":"text","text":"a"}',
            b',{"type":"text","text":"a"}',
            b"]}]}",
        ),
        "stop numbers": filled(size, ASKED + b'"stop":[1', b",1", b"]}"),
        "tools": filled(size, ASKED + b'"tools":[{}', b",{}", b"]}"),
        "unknown": filled(size, ASKED + b'"x":[{"a":1}', b',{"a":1}', b"]}"),
    }


OF_ONE_SIZE = {
    "messages": json.dumps({"messages": [TURN] * MAX_CHAT_MESSAGES}).encode(),
    "stop strings": json.dumps(
        {"messages": [TURN], "stop": stop_strings("one last byte each")}
    ).encode(),
}
BODIES = {
    **{f"{name}, {size}": body for size in SIZES for name, body in bodies(size).items()},
    **OF_ONE_SIZE,
}


PATHS = {
    "/v1/chat/completions": b"messages",
    "/v1/messages": b"messages",
    "/v1/responses": b"input",
    "/api/chat": b"messages",
}
# The dearest that each of the other endpoints reads in its own way; the rest is the same code, and
# so is all that a process of its own reads.
OF_OTHERS = ("text parts", "empty objects", "keys", "a text")
ASKED_OF = [("/v1/chat/completions", name) for name in BODIES] + [
    (path, f"{name}, {size}")
    for path in [*PATHS][1:]
    for size, names in zip(SIZES, (OF_OTHERS, OF_OTHERS[:1]), strict=True)
    for name in names
]


async def post(path: str, body: bytes, watch: LoopWatch) -> None:
    async with (
        serving(ScriptedGenerator([TextPiece("a", "target")])) as url,
        aiohttp.ClientSession(url) as http,
    ):
        watch.restart()
        async with http.post(path, data=io.BytesIO(body)) as response:
            assert response.status in (200, 400, 404, 413)
            await response.read()


@pytest.mark.parametrize(("path", "name"), ASKED_OF)
def test_no_body_holds_the_agent_up(path: str, name: str) -> None:
    body = BODIES[name].replace(b'"messages"', b'"%b"' % PATHS[path], 1)

    async def scenario(watch: LoopWatch) -> None:
        await post(path, body, watch)

    seconds, what = least_of_a_few(scenario)
    assert seconds < LIMIT_SECONDS, what


@pytest.mark.parametrize(
    ("path", "start", "part", "end"),
    [
        ("/v1/messages", b'{"system":[{"type":"text","text":"a"}', b',{"type":"text","text":"a"}',
         b'],"messages":[{"role":"user","content":"x"}]}'),
        ("/v1/messages", b'{"output_config":{"a":1', b',"a":1', b'},"messages":[]}'),
        ("/v1/responses", b'{"input":[{"role":"user","content":"x","type":"message"}',
         b',{"role":"user","content":"x","type":"message"}', b"]}"),
        ("/v1/responses", b'{"metadata":{"a":"b"', b',"a":"b"', b'},"input":"x"}'),
        ("/v1/responses", b'{"input":"', b"\\u00e9", b'"}'),
        ("/api/generate", b'{"prompt":"', b"\\u00e9", b'"}'),
        ("/api/generate", b'{"options":{"stop":["a"', b',"a"', b']},"prompt":"x"}'),
        ("/api/chat", b'{"messages":[{"role":"user","content":"x","images":["a"', b',"a"', b"]}]}"),
        ("/api/show", b'{"model":"', b"x", b'"}'),
    ],
)  # fmt: skip
def test_no_field_of_another_dialect_holds_the_agent_up(
    path: str, start: bytes, part: bytes, end: bytes
) -> None:
    async def scenario(watch: LoopWatch) -> None:
        await post(path, filled(SHORT_BODY_BYTES, start, part, end), watch)

    seconds, what = least_of_a_few(scenario)
    assert seconds < LIMIT_SECONDS, what


@pytest.mark.parametrize("name", ["a text", "keys", "empty objects"])
def test_no_chat_message_holds_the_agent_up(name: str) -> None:
    text = (
        bodies(MAX_CLIENT_MESSAGE_BYTES - 100)[name].decode().replace("{", '{"type":"generate",', 1)
    )

    async def scenario(watch: LoopWatch) -> None:
        async with (
            serving(ScriptedGenerator([TextPiece("a", "target")])) as url,
            aiohttp.ClientSession(url) as http,
            http.ws_connect("/v1/chat/socket") as socket,
        ):
            watch.restart()
            await socket.send_str(text)
            assert (await socket.receive_json())["type"] in ("started", "error")

    seconds, what = least_of_a_few(scenario)
    assert seconds < LIMIT_SECONDS, what


def test_no_compressed_body_holds_the_agent_up() -> None:
    bomb = gzip.compress(b'{"messages":' + b" " * (3 * MAX_BODY_BYTES), 9)

    async def scenario(watch: LoopWatch) -> None:
        headers = {"Content-Encoding": "gzip"}
        async with serving(ScriptedGenerator([])) as url, aiohttp.ClientSession(url) as http:
            watch.restart()
            async with http.post("/v1/completions", data=bomb, headers=headers) as response:
                assert 413 == response.status

    seconds, what = least_of_a_few(scenario)
    assert seconds < LIMIT_SECONDS, what


def test_no_answer_that_is_read_again_holds_the_agent_up() -> None:
    """A client that comes back for all of a long answer gets it piece by piece."""

    async def scenario(watch: LoopWatch) -> None:
        generator = ScriptedGenerator([TextPiece("a", "target")] * 9000)
        asked = {"type": "generate", "messages": [TURN]}
        async with (
            serving(generator) as url,
            aiohttp.ClientSession(url) as http,
            http.ws_connect("/v1/chat/socket") as socket,
        ):
            await socket.send_json(asked)
            answer_id = (await socket.receive_json())["id"]
            for _ in range(2):
                while (await socket.receive_json())["type"] != "finished":
                    pass
                watch.restart()
                await socket.send_json({"type": "resume", "id": answer_id})

    seconds, what = least_of_a_few(scenario)
    assert seconds < LIMIT_SECONDS, what
