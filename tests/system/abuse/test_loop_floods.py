"""Devices that keep the event loop busy, each within its limits: together they take a part of it.

The rest is for the others. What is measured is the loop's own processor time, whatever else the
machine does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from shared.protocol.codec import encode
from shared.protocol.draft_packing import pack_rows
from shared.protocol.messages import AgentMessage, Draft, Status
from shared.protocol.token_ids import pack_token_ids
from shared.speculation.sampling import SamplingParameters
from tests.support.ends.limits import make_device_limits
from tests.support.ends.loopback import Verifier
from tests.support.ends.raw_board import RawBoard, raw_board
from tests.support.ends.waiting import eventually
from tests.support.messages.misbehaviour import beside_a_healthy_agent, row
from tests.support.network.strangers import masked_frame
from verifier.server.connection import DeviceConnection
from verifier.server.loop_shares import PART_OF_LOOP, PART_OF_MANY

NUM_ROWS = 32
FLOOD_SECONDS = 1.5
BURSTS_SECONDS = 0.15
# Far more than a default verifier takes, so that nothing but the loop's own bound is met.
BOUNDLESS = make_device_limits(messages_per_second=10**9, bytes_per_second=10**12)


def full_row(token_id: int) -> Any:
    others = [other for other in range(63) if other != token_id]
    return row((token_id, 100), *((other, 50) for other in others))


def dead_draft() -> Draft:
    """A draft for a base that is long gone, with as many rows as a board may send."""
    token_ids = [5] * NUM_ROWS
    rows = pack_rows(tuple(full_row(token_id) for token_id in token_ids))
    return Draft(0, 0, 0, pack_token_ids(token_ids), rows=rows)


FLOODS: dict[str, Callable[[], AgentMessage]] = {
    "drafts full of rows for a path that is dead": dead_draft,
    "messages that are read at once": lambda: Status(5),
}


@contextmanager
def loop_seconds(spent: list[float]) -> Iterator[None]:
    """Note what the loop's thread spends on each message of the devices."""
    receive = DeviceConnection._receive

    def watched(self: DeviceConnection, message: AgentMessage) -> None:
        started_at = time.thread_time()
        receive(self, message)
        spent.append(time.thread_time() - started_at)

    DeviceConnection._receive = watched  # type: ignore[method-assign]
    try:
        yield
    finally:
        DeviceConnection._receive = receive  # type: ignore[method-assign]


async def flood(board: RawBoard, message: AgentMessage, until: float) -> None:
    """Say the same as fast as the verifier reads it."""
    writer: Any = board.socket._writer
    payload = encode(message)
    frames = frame(payload) * max(100_000 // len(payload), 1)
    while time.monotonic() < until:
        writer.transport.write(frames)
        with suppress(TimeoutError):
            await eventually(lambda: not writer.transport.get_write_buffer_size(), FLOOD_SECONDS)


def frame(payload: bytes) -> bytes:
    if len(payload) < 126:
        return masked_frame(0x82, payload)
    return bytes((0x82, 0xFE)) + len(payload).to_bytes(2, "big") + bytes(4) + payload


def seconds_told(verifier: Verifier, device: str) -> float:
    """What /metrics says of a device."""
    name, labels = "goodspeed_device_loop_seconds_total", {"device": device}
    return verifier.service.metrics.registry.get_sample_value(name, labels) or 0.0


async def advance(board: RawBoard) -> None:
    """A stream whose first path is dead: its base moves on with what the target says."""
    await board.open(0, SamplingParameters(1.0), max_tokens=1000)
    verdict = await board.window(0)
    at = board.position_after(verdict)
    await board.draft(0, at, [1], pack_rows((row((1, 9)),)))


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_of_two_devices_leaves_most_of_the_loop_to_others(name: str) -> None:
    spent: list[float] = []

    async def misbehave(verifier: Verifier) -> None:
        async with raw_board(verifier, "bad") as one, raw_board(verifier, "worse") as other:
            for board in (one, other):
                await advance(board)
            spent.clear()
            started_at = time.monotonic()
            until = started_at + FLOOD_SECONDS
            await asyncio.gather(*(flood(board, FLOODS[name](), until) for board in (one, other)))
            elapsed = time.monotonic() - started_at
            assert sum(spent) <= PART_OF_LOOP * elapsed
            told = sum(seconds_told(verifier, device) for device in ("bad", "worse"))
            assert sum(spent) < told <= PART_OF_MANY * elapsed + BURSTS_SECONDS
            for board in (one, other):
                transport: Any = board.socket._writer.transport
                transport.abort()

    with loop_seconds(spent):
        asyncio.run(
            beside_a_healthy_agent(
                misbehave, device_limits=BOUNDLESS, devices=("bad", "worse", "good")
            )
        )
