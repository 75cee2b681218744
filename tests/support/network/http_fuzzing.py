"""Broken HTTP to the ports of both programs, without sockets: real gates, parsers and handlers.

Every request must be answered below 500 or by closing the connection, without a traceback, and
with one line a minute in the log for each kind at most.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edge_agent.api.access import Access
from edge_agent.api.app import build_app, serve
from edge_agent.generation.scripted_generator import ScriptedGenerator
from shared.daemon.connection_gate import ConnectionGate
from shared.daemon.http_server import listen
from shared.protocol.handed_drafts.draft_offers import OFFERS_PATH
from shared.protocol.token_question import TOKENS_PATH
from tests.support.ends.api_server import HELLO, ByteTokenizer
from tests.support.ends.limits import make_device_limits
from tests.support.ends.loopback import running_verifier
from tests.support.ends.scripted import scripted_service
from tests.support.network.http_bodies import CLIENT_BODIES
from tests.support.network.http_requests import HttpMutations
from verifier.server.device_tokens import new_token
from verifier.server.drafts.draft_shelf import DraftShelf
from verifier.server.loading_port import LoadingPort
from verifier.web.assets import STATE_PATH

Outcomes = Counter[str]
VERIFIER_PATHS = (
    *("/healthz", "/metrics", "/v1/vocabulary", "/v1/device", "/nothing", "/dashboard", STATE_PATH),
    *(TOKENS_PATH, TOKENS_PATH, OFFERS_PATH, f"{OFFERS_PATH}/x.gguf", f"{OFFERS_PATH}/..%2fx"),
)
AGENT_PATHS = (
    *("/", "/healthz", "/health", "/v1/models", "/v1/models/a/b", "/v1/chat/socket", "/nothing"),
    *("/v1/chat/completions/chatcmpl-1/events", "/v1/completions/cmpl-1/events?starting_after=1"),
    *(
        "/v1/completions/cmpl-1",
        "/v1/chat/completions/chatcmpl-1",
        "/v1/messages/msg_1/events",
        "/v1/responses/resp_1",
    ),
    *("/v1/responses/resp_1?stream=true&starting_after=x", "/api/tags", "/api/ps", "/api/version"),
    *CLIENT_BODIES,
)
KEY = "a-key-of-16-signs"
MOST_TURNS = 60  # of the event loop that a connection gets
QUIET_TURNS = 8  # without another byte: its answer is there, unless a thread makes it
THREAD_SECONDS = 0.001
_STATUS = re.compile(rb"HTTP/\d\.\d (\d{3}) ")


class WiredTransport(asyncio.Transport):
    """Stands for the socket of a client that reads all that comes."""

    def __init__(self, protocol: Any, address: str) -> None:
        super().__init__({"peername": (address, 1)})
        self.written = bytearray()
        self.is_over = False
        self._protocol = protocol

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.is_over

    def close(self) -> None:
        if not self.is_over:
            self.is_over = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def get_write_buffer_size(self) -> int:
        """All that was written was read."""
        return 0

    def get_protocol(self) -> Any:
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def pause_reading(self) -> None:
        """What comes is fed in all the same: it is bounded."""

    def resume_reading(self) -> None: ...

    def is_reading(self) -> bool:
        return True


class LogWatch(logging.Handler):
    """What is logged from warnings on: no traceback, and each kind once a minute at most."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.num_lines: Counter[str] = Counter()
        self.tracebacks: list[str] = []
        self._since = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        self.num_lines[f"{record.name}: {record.msg}"] += 1
        if record.exc_info and len(self.tracebacks) < 3:
            self.tracebacks.append(logging.Formatter().format(record))

    def check(self) -> None:
        """No stranger has brought about a traceback, or more than a line a minute."""
        assert not self.tracebacks, self.tracebacks
        most = 1 + (time.monotonic() - self._since) / 60
        assert {} == {kind: count for kind, count in self.num_lines.items() if count > most}


@asynccontextmanager
async def watched_log() -> AsyncIterator[LogWatch]:
    """Fails where what is logged in the block is not as it must be."""
    watch, failures = LogWatch(), list[str]()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: failures.append(repr(context)))
    logging.getLogger().addHandler(watch)
    try:
        yield watch
    finally:
        logging.getLogger().removeHandler(watch)
        loop.set_exception_handler(None)
    watch.check()
    assert not failures, failures[:3]


async def fuzz_gate(
    gate: ConnectionGate,
    mutations: HttpMutations,
    num_requests: int,
    told: Callable[[int], object] = lambda _: None,
) -> Outcomes:
    """Say so many requests to a port; what became of them, by status."""
    outcomes: Outcomes = Counter()
    num_said = 0
    while num_said < num_requests:
        requests = [mutations.request() for _ in range(mutations.random.choice((1, 1, 1, 2, 5)))]
        heard = await _conversation(gate, mutations, requests)
        statuses = [int(status) for status in _STATUS.findall(heard)]
        assert all(status < 500 or status == 503 for status in statuses), (requests, heard[:500])
        outcomes.update(str(status) for status in statuses)
        outcomes["no answer"] += max(len(requests) - len(statuses), 0)
        num_said += len(requests)
        told(len(requests))
    return outcomes


async def _conversation(
    gate: ConnectionGate, mutations: HttpMutations, requests: list[bytes]
) -> bytes:
    """One connection, from an address of its own, and all that it is told."""
    connection = gate()
    random = mutations.random
    address = ".".join(str(random.randrange(1, 255)) for _ in range(4))
    transport = WiredTransport(connection, address)
    connection.connection_made(transport)
    for request in requests:
        for piece in mutations.pieces(request):
            if not transport.is_over:
                connection.data_received(piece)
                await asyncio.sleep(0)
    num_quiet = num_heard = 0
    for _ in range(MOST_TURNS):
        await asyncio.sleep(0)
        num_quiet = num_quiet + 1 if len(transport.written) == num_heard else 0
        num_heard = len(transport.written)
        if num_quiet == QUIET_TURNS:
            await asyncio.sleep(THREAD_SECONDS)
        if transport.is_over or num_quiet > QUIET_TURNS:
            break
    transport.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return bytes(transport.written)


async def fuzz_verifier_port(
    num_requests: int, seed: int, told: Callable[[int], object] = lambda _: None
) -> Outcomes:
    limits = make_device_limits(messages_per_second=10_000_000)  # it asks for ever
    with TemporaryDirectory() as directory:
        shelf = DraftShelf(lambda path: None, bytes_per_second=1e9, directory=Path(directory))
        service, options = scripted_service(), {"stranger_limits": None, "drafts": shelf}
        await asyncio.to_thread(Path(directory, "x.gguf").write_bytes, b"a draft" * 1000)
        async with (
            watched_log(),
            running_verifier(service, device_limits=limits, **options) as verifier,
        ):
            token = verifier.tokens["board"]
            mutations = HttpMutations(seed, VERIFIER_PATHS, token)
            return await fuzz_gate(verifier.server.gate, mutations, num_requests, told)


async def fuzz_loading_port(
    num_requests: int, seed: int, told: Callable[[int], object] = lambda _: None
) -> Outcomes:
    """The verifier's port before it has loaded its target; each answer to a device is 503."""
    token, line = new_token("board", bytes(32))
    sockets = listen("127.0.0.1", 0)
    port = LoadingPort(dict([line.split()]), lambda: 43, max_connections=1000, stranger_limits=None)
    async with watched_log():
        await port.start(sockets)
        try:
            assert port._http is not None
            mutations = HttpMutations(seed, VERIFIER_PATHS, token)
            return await fuzz_gate(port._http.gate, mutations, num_requests, told)
        finally:
            await port.stop()
            for listening in sockets:
                listening.close()


async def fuzz_agent_port(
    num_requests: int, seed: int, told: Callable[[int], object] = lambda _: None
) -> Outcomes:
    generator = ScriptedGenerator(HELLO)

    def forget(num_said: int) -> None:
        generator.requests.clear()
        told(num_said)

    async with watched_log():
        access = Access(KEY, allowed_hosts=None)
        app = build_app(generator, access, tokenizer=ByteTokenizer())
        server = await serve(app, listen("127.0.0.1", 0), stranger_limits=None)
        try:
            mutations = HttpMutations(seed, AGENT_PATHS, KEY, CLIENT_BODIES)
            return await fuzz_gate(server.gate, mutations, num_requests, forget)
        finally:
            await server.stop()
