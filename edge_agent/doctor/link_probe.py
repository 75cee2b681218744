"""Asks the verifier: how far it is, whether it welcomes this board, and how fast it generates.

It must never run beside this board's own agent: each would take the connection from the other.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

import aiohttp
from yarl import URL

from edge_agent.doctor.link_findings import Greeting
from edge_agent.draft_model.drafter import Drafter
from edge_agent.draft_model.shared_vocabulary import SharedVocabulary
from edge_agent.link.keeper import LinkEnd, LinkKeeper
from edge_agent.link.link import CONNECT_TIMEOUT_SECONDS, Link, make_hello
from edge_agent.link.unreachable import unreachable
from shared.daemon.http_server import HEALTH_PATH
from shared.errors import LinkLost, ProtocolError, VerifierLoading
from shared.protocol.messages import VerifierMessage, Welcome
from shared.protocol.transport import LOADING_HEADER, http_address

_MOST_ANSWER_BYTES = 4096
# Those without a token may ask 20 times a second; a request that waited would be no measure.
_PAUSE_SECONDS = 0.1


async def measure_round_trips(
    url: str, num_samples: int, tls: ssl.SSLContext | None = None
) -> list[float]:
    """Seconds from question to answer, over one connection that is open already.

    Raises:
        LinkLost: the verifier cannot be reached, or something else is there.
        VerifierLoading: it is not ready yet.
    """
    address = http_address(url, HEALTH_PATH)
    samples = []
    timeout = aiohttp.ClientTimeout(total=CONNECT_TIMEOUT_SECONDS)
    try:
        connector = aiohttp.TCPConnector(ssl=True if tls is None else tls)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            await _ask(session, address, url)
            for _ in range(num_samples):
                await asyncio.sleep(_PAUSE_SECONDS)
                asked_at = time.monotonic()
                await _ask(session, address, url)
                samples.append(time.monotonic() - asked_at)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise await unreachable(error, url, CONNECT_TIMEOUT_SECONDS, tls) from error
    return samples


async def _ask(session: aiohttp.ClientSession, address: str, url: str) -> None:
    async with session.get(address, allow_redirects=False) as answer:
        body = await answer.content.read(_MOST_ANSWER_BYTES)
    if answer.status == 200:
        return
    if answer.status == 503 and _status(body) == "loading":
        raise VerifierLoading(answer.headers.get(LOADING_HEADER, ""), None)
    raise LinkLost(f"what is at {url} answers {answer.status}, which no verifier does that is well")


def _status(body: bytes) -> object:
    try:
        answer = json.loads(body)
    except ValueError:
        return None
    return answer.get("status") if isinstance(answer, dict) else None


async def is_answering(host: str, port: int, *, speaks_tls: bool = False) -> bool:
    """Whether something answers like a program of goodspeed at this port of this machine."""
    scheme = "https" if speaks_tls else "http"
    address = URL.build(scheme=scheme, host=host, port=port, path=HEALTH_PATH)
    timeout = aiohttp.ClientTimeout(total=2.0)
    with suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(address, ssl=False) as answer,  # nothing is said, nothing is believed
        ):
            return _status(await answer.content.read(_MOST_ANSWER_BYTES)) is not None
    return False


async def greet(
    url: str, token: str, drafter: Drafter, tls: ssl.SSLContext | None = None
) -> Greeting:
    """Connect once, with the vocabulary of this drafter, and leave again.

    Raises:
        LinkError, ProtocolError: why the verifier does not welcome this board.
    """
    vocabulary = SharedVocabulary(drafter)
    hello = make_hello(
        vocabulary,
        context_tokens=vocabulary.context_tokens,
        draft_token_seconds=0.0,
        max_streams=vocabulary.num_slots,
    )
    visit = _Visit()
    keeper = LinkKeeper(url, token, hello, vocabulary, visit, tls=tls)
    async with aiohttp.ClientSession() as session:
        staying = asyncio.create_task(keeper.run(session), name="doctor's visit")
        ends: set[asyncio.Future[Any]] = {staying, visit.welcomed}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            staying.cancel()
            ended = await asyncio.gather(staying, return_exceptions=True)
    if not visit.welcomed.done():
        _raise_end(ended)
    return Greeting(
        visit.welcomed.result().target_model, vocabulary.num_shared, vocabulary.num_lacked
    )


def _raise_end(ended: Sequence[object]) -> NoReturn:
    (error,) = ended
    assert isinstance(error, Exception), f"the link ended by {error!r}"
    if isinstance(error, ProtocolError):
        raise LinkLost(f"what answers does not speak goodspeed's protocol: {error}") from error
    raise error


class _Visit:
    """The owner of a link that is wanted for its welcome only."""

    awaits_link = False

    def __init__(self) -> None:
        self.welcomed: asyncio.Future[Welcome] = asyncio.get_running_loop().create_future()

    def take_link(self, link: Link, welcome: Welcome) -> None:
        if not self.welcomed.done():
            self.welcomed.set_result(welcome)

    def receive(self, message: VerifierMessage, num_bytes: int) -> None:
        """Without a stream there is nothing to hear."""

    def lose_link(self, error: LinkEnd, delay_seconds: float) -> None:
        raise error
