"""Strangers at a verifier's port, without a token; each goes on for ever."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress

from tests.support.ends.loopback import Verifier
from tests.support.ends.raw_board import DEVICE_PATH
from tests.support.network.http_fuzzing import VERIFIER_PATHS
from tests.support.network.http_requests import HttpMutations
from tests.support.network.strangers import strangers, upgrade

NUM_AT_ONCE = 8
NUM_SLOW = 200
GUESS = upgrade(DEVICE_PATH, f"Authorization: Bearer gsd_good_{'A' * 43}")


async def guesses(verifier: Verifier, device: str) -> None:
    """Wrong tokens, one after the other on each of a few connections."""
    await _on_connections(verifier, itertools.repeat([GUESS] * 20))


async def broken_http(verifier: Verifier, device: str) -> None:
    """Requests that no client should send."""
    mutations = HttpMutations(1, VERIFIER_PATHS, "x" * 52)
    requests = (mutations.pieces(mutations.request()) for _ in itertools.count())
    await _on_connections(verifier, requests)


async def slow_heads(verifier: Verifier, device: str) -> None:
    """Heads that trickle in, a letter a second, on more connections than a port keeps idle."""
    while True:
        async with strangers(verifier.port, NUM_SLOW) as slow:
            await asyncio.gather(*(one.send(b"GET /healthz HTTP/1.1\r\nX: ") for one in slow))
            for _ in range(60):
                await asyncio.sleep(1.0)
                with suppress(ConnectionError):
                    await asyncio.gather(*(one.send(b"x") for one in slow if not one.is_cut))


async def silent_crowd(verifier: Verifier, device: str) -> None:
    """Connections that come, say nothing and go."""
    while True:
        async with strangers(verifier.port, NUM_SLOW // 4):
            await asyncio.sleep(0.1)


STRANGERS = {
    "guesses": guesses,
    "broken http": broken_http,
    "slow heads": slow_heads,
    "silent crowd": silent_crowd,
}


async def _on_connections(verifier: Verifier, requests: object) -> None:
    async def one_after_the_other() -> None:
        while True:
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(5), strangers(verifier.port, 1) as (one,):
                    for piece in next(requests):  # type: ignore[call-overload]
                        await one.send(piece)
                    await one.line()
            await asyncio.sleep(0.005)

    await asyncio.gather(*(one_after_the_other() for _ in range(NUM_AT_ONCE)))
