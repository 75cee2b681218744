"""Ways to disturb the link between an agent and its verifier, all through the chaos proxy.

A disturbance has gone by when its coroutine returns: the weather is calm, but the link may be lost.
Where it sleeps, that is how long it lasts: nothing is waited for.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from tests.support.ends.waiting import eventually
from tests.support.network.chaos_lane import CALM, STALLED, Weather
from tests.support.network.chaos_proxy import ChaosProxy

# A cut that waits for bytes which never come is made after this time.
_LONGEST_CUT_SECONDS = 0.5


@dataclass(frozen=True)
class Disturbance:
    """One kind; `cuts` if no connection survives it."""

    cuts: bool
    happen: Callable[[ChaosProxy, random.Random], Awaitable[None]]


async def _reset(proxy: ChaosProxy, _random: random.Random) -> None:
    proxy.reset()


async def _reset_of_the_agent(proxy: ChaosProxy, _random: random.Random) -> None:
    proxy.reset("agent")


async def _reset_of_the_verifier(proxy: ChaosProxy, _random: random.Random) -> None:
    proxy.reset("verifier")


async def _cut_after_bytes(proxy: ChaosProxy, chance: random.Random) -> None:
    weather = Weather(cut_after_bytes=chance.randrange(400))
    direction = chance.choice(("up", "down"))
    setattr(proxy, direction, weather)
    await _cut(proxy)


async def _cuts_in_the_greeting(proxy: ChaosProxy, chance: random.Random) -> None:
    """The connections after the first one are cut, too, in the upgrade or just after it."""
    proxy.weather = Weather(cut_after_bytes=chance.randrange(1, 1500))
    before = proxy.num_connections
    proxy.reset()
    until = before + chance.randint(1, 3)
    with suppress(TimeoutError):
        await eventually(lambda: proxy.num_connections >= until, _LONGEST_CUT_SECONDS)
    await _cut(proxy)


async def _cut(proxy: ChaosProxy) -> None:
    with suppress(TimeoutError):
        await eventually(lambda: proxy.num_open == 0, _LONGEST_CUT_SECONDS)
    proxy.weather = CALM
    proxy.reset()


async def _half_open(proxy: ChaosProxy, _random: random.Random) -> None:
    proxy.lose()


async def _half_open_upwards(proxy: ChaosProxy, _random: random.Random) -> None:
    """The verifier hears nothing more, and the agent hears everything."""
    proxy.lose("up")


async def _half_open_downwards(proxy: ChaosProxy, _random: random.Random) -> None:
    """The agent hears nothing more, and the verifier hears everything."""
    proxy.lose("down")


async def _stall(proxy: ChaosProxy, chance: random.Random) -> None:
    proxy.weather = STALLED
    await asyncio.sleep(chance.uniform(0.02, 0.15))
    proxy.weather = CALM


async def _stall_until_it_is_given_up(proxy: ChaosProxy, _random: random.Random) -> None:
    """The agent takes the link for dead and comes again, through the stall."""
    before = proxy.num_connections
    proxy.weather = STALLED
    await eventually(lambda: proxy.num_connections > before)
    proxy.weather = CALM


async def _trickle(proxy: ChaosProxy, chance: random.Random) -> None:
    proxy.weather = Weather(piece_bytes=chance.randint(1, 5), bytes_per_second=4000)
    await asyncio.sleep(chance.uniform(0.05, 0.2))
    proxy.weather = CALM


async def _trickle_and_reset(proxy: ChaosProxy, chance: random.Random) -> None:
    await _trickle(proxy, chance)
    proxy.reset()


async def _jitter(proxy: ChaosProxy, chance: random.Random) -> None:
    proxy.weather = Weather(delay_seconds=0.01, jitter_seconds=chance.uniform(0.01, 0.05))
    await asyncio.sleep(0.2)
    proxy.weather = CALM


DISTURBANCES: Mapping[str, Disturbance] = {
    "reset": Disturbance(True, _reset),
    "reset, the verifier hears nothing": Disturbance(True, _reset_of_the_agent),
    "reset, the agent hears nothing": Disturbance(True, _reset_of_the_verifier),
    "cut after some bytes": Disturbance(True, _cut_after_bytes),
    "cuts in the greeting": Disturbance(True, _cuts_in_the_greeting),
    "half-open": Disturbance(True, _half_open),
    "half-open upwards": Disturbance(True, _half_open_upwards),
    "half-open downwards": Disturbance(True, _half_open_downwards),
    "stall": Disturbance(False, _stall),
    "stall until it is given up": Disturbance(False, _stall_until_it_is_given_up),
    "trickle": Disturbance(False, _trickle),
    "trickle and reset": Disturbance(True, _trickle_and_reset),
    "jitter": Disturbance(False, _jitter),
}
