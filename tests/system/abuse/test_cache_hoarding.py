"""A device that takes the whole cache and does nothing with it: others get their share."""

from __future__ import annotations

import asyncio

from shared.protocol.messages import Status
from shared.speculation.sampling import SamplingParameters
from tests.support.ends.loopback import Verifier
from tests.support.ends.raw_board import raw_board
from tests.support.ends.waiting import eventually
from tests.support.messages.misbehaviour import beside_a_healthy_agent

CONTEXT_TOKENS, NUM_STREAMS = 512, 8
CACHE_BLOCKS = NUM_STREAMS * CONTEXT_TOKENS // 16
TWELVE_DAYS = (1 << 40) - 1  # the longest that a Status can say, in microseconds


def sample(verifier: Verifier, name: str) -> float:
    registry = verifier.service.metrics.registry
    return registry.get_sample_value(f"goodspeed_{name}", {"device": "bad"}) or 0.0


def num_output_tokens(verifier: Verifier, device: str) -> float:
    registry = verifier.service.metrics.registry
    return registry.get_sample_value("goodspeed_goodput_tokens_total", {"device": device}) or 0.0


async def hoard(verifier: Verifier) -> None:
    """Fill the cache, then owe a draft for ever, as a board that needs twelve days for a token."""
    planner = verifier.service.planner
    async with raw_board(verifier, "bad") as bad:
        await bad.send(Status(TWELVE_DAYS))
        for channel in range(NUM_STREAMS):
            await bad.open(
                channel,
                SamplingParameters(1.0),
                text="abcdefgh"[channel] * 256,  # no prefix that is shared
                max_tokens=CONTEXT_TOKENS - 256,
                draft_length=4,
            )
            await bad.window(channel)
            await bad.send(Status(TWELVE_DAYS))
        before = num_output_tokens(verifier, "good")
        await eventually(lambda: num_output_tokens(verifier, "good") >= before + 160)
        assert planner.admission.num_preemptions > 0
        assert 0 < sample(verifier, "device_cache_blocks") < CACHE_BLOCKS
        assert 0 < sample(verifier, "device_waiting_seconds")


def test_a_device_that_fills_the_cache_and_idles_keeps_nobody_out() -> None:
    asyncio.run(
        beside_a_healthy_agent(
            hoard,
            num_blocks=CACHE_BLOCKS,
            context_tokens=CONTEXT_TOKENS,
            max_streams_per_device=NUM_STREAMS,
        )
    )
