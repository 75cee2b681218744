"""HTTP that no client should send, at both ports: a 4xx or a closed connection, and no log."""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvloop
from aiohttp import web

from edge_agent.generation.scripted_generator import ScriptedGenerator
from tests.support.ends.api_server import HELLO, serving
from tests.support.ends.loopback import running_verifier
from tests.support.ends.scripted import scripted_service
from tests.support.network.http_fuzzing import (
    LogWatch,
    Outcomes,
    fuzz_agent_port,
    fuzz_loading_port,
    fuzz_verifier_port,
)
from tests.support.network.strangers import stranger, upgrade

NUM_REQUESTS = 5000


@asynccontextmanager
async def agent_port() -> AsyncIterator[int]:
    async with serving(ScriptedGenerator(HELLO)) as url:
        yield int(url.rpartition(":")[2])


@asynccontextmanager
async def verifier_port() -> AsyncIterator[int]:
    async with running_verifier(scripted_service()) as verifier:
        yield verifier.port


PORTS = {"agent": agent_port, "verifier": verifier_port}
FUZZERS = {
    "agent": fuzz_agent_port,
    "verifier": fuzz_verifier_port,
    "verifier that loads": fuzz_loading_port,
}
CHAT_PATH = "/v1/chat/completions"


def packed(first: str, *headers: bytes, body: bytes = b"") -> bytes:
    length = b"Content-Length: %d" % len(body)
    return b"\r\n".join((first.encode(), b"Host: 127.0.0.1", length, *headers)) + b"\r\n\r\n" + body


GET, POST = "GET /healthz HTTP/1.1", f"POST {CHAT_PATH} HTTP/1.1"
ODD = {
    "an expectation that is no text": (packed(GET, b"Expect: \xff\xfe"), b"400"),
    "an expectation at no path": (packed("GET /no HTTP/1.1", b"Expect: 1"), b"417"),
    "an upgrade that is no text": (
        upgrade("/v1/chat/socket").replace(b": websocket", b": \xb3websocket"),
        b"4",
    ),
    "a key that is no text": (upgrade("/v1/chat/socket").replace(b"AA==", b"\xff=="), b"4"),
    "an expectation of nothing known": (packed(GET, b"Expect: 200-ok"), b"417"),
    "no gzip": (packed(POST, b"Content-Encoding: gzip", body=b"{}" * 90), b"4"),
    "half a gzip": (
        packed(POST, b"Content-Encoding: gzip", body=gzip.compress(b"{}" * 90)[:20]),
        b"4",
    ),
    "no deflate": (packed(POST, b"Content-Encoding: deflate", body=b"\xff" * 90), b"4"),
    "a chunk that ends nowhere": (
        b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}x\r\n"
        % CHAT_PATH.encode(),
        b"4",
    ),
    "too long a header": (packed(GET, b"X: " + b"a" * 20_000), b"400"),
    "too many headers": (packed(GET, *[b"X: 1"] * 2000), b"400"),
    "an address that is none": (b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
    "an upgrade to nothing": (packed(GET, b"Upgrade: x", b"Connection: Upgrade"), b"200"),
    "an upgrade with another behind it": (
        upgrade("/healthz") + b"\x16\x03\x01" + upgrade("/healthz"),
        b"200",
    ),
    "no version": (b"GET /no\r\n\r\n", b"4"),
    "another version": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"4"),
}


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("name", ODD)
def test_odd_http_is_a_4xx_and_not_logged(
    name: str, port: str, caplog: pytest.LogCaptureFixture
) -> None:
    said, status = ODD[name]

    async def scenario() -> bytes:
        async with PORTS[port]() as number, stranger(number) as one:
            await one.send(said)
            return await one.line()

    answer = asyncio.run(scenario())
    assert answer.split()[1].startswith(status), answer
    assert [] == [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def test_what_is_expected_by_http_is_met() -> None:
    async def scenario() -> bytes:
        async with agent_port() as number, stranger(number) as one:
            await one.send(packed(POST, b"Expect: 100-Continue", body=b"no JSON"))
            return await one.line()

    assert b"HTTP/1.1 100 Continue\r\n" == asyncio.run(scenario())


@pytest.mark.parametrize("port", FUZZERS)
def test_no_broken_request_is_more_than_a_4xx_at_a_port(
    port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests reach all that the port serves."""
    resolve = web.UrlDispatcher.resolve
    served, reached = set[tuple[str, str]](), set[tuple[str, str]]()

    def name_of(route: web.AbstractRoute) -> tuple[str, str]:
        assert route.resource is not None
        return route.method, route.resource.canonical

    async def watched(router: web.UrlDispatcher, request: web.Request) -> web.UrlMappingMatchInfo:
        served.update(map(name_of, router.routes()))
        found = await resolve(router, request)
        if found.http_exception is None:
            reached.add(name_of(found.route))
        return found

    monkeypatch.setattr(web.UrlDispatcher, "resolve", watched)
    outcomes: Outcomes = Counter()
    for seed in (1, 2):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            outcomes += runner.run(FUZZERS[port](NUM_REQUESTS, seed))
    assert 2 * NUM_REQUESTS <= outcomes.total()
    answered = "503" if port == "verifier that loads" else "200"
    assert {answered, "400", "401", "404", "405", "417"} <= outcomes.keys()
    assert served
    assert set() == served - reached


def test_the_watch_of_the_log_sees_tracebacks_and_floods() -> None:
    watch = LogWatch()
    watch.check()
    for _ in range(2):
        watch.emit(logging.LogRecord("x", logging.WARNING, "", 1, "busy", (), None))
    with pytest.raises(AssertionError):
        watch.check()
    watch = LogWatch()
    error = ValueError()
    watch.emit(logging.LogRecord("x", logging.ERROR, "", 1, "m", (), (ValueError, error, None)))
    with pytest.raises(AssertionError):
        watch.check()
