"""A device with as many streams as it may have, each as long as the context."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from shared.protocol.messages import Open, Opened, Verdict
from shared.protocol.prompt_parts import cut_open
from shared.protocol.token_ids import pack_token_ids
from shared.speculation.sampling import GREEDY
from tests.support.ends.limits import make_device_limits
from tests.support.ends.loopback import Verifier, round_settings, running_verifier
from tests.support.ends.raw_board import RawBoard
from tests.support.ends.scripted import scripted_service
from verifier.config import LimitsSection

CONTEXT_TOKENS = 131_072
NUM_STREAMS = LimitsSection().max_streams_per_device
ROUND_PATIENCE_SECONDS = 30.0


class LongStreams:
    """A verifier whose rounds wait until they are let go, and a device's long streams."""

    def __init__(self, verifier: Verifier, rounds: threading.Semaphore) -> None:
        self.verifier = verifier
        self._rounds = rounds

    def cut_off(self) -> None:
        """The link to every board is lost."""
        for connection in tuple(self.verifier.server._connections):
            connection.close()

    def let_go(self, num_rounds: int = 1000) -> None:
        """Let the target run so many rounds more."""
        self._rounds.release(num_rounds)

    async def open(self, board: RawBoard, *, num_committed: int, num_output: int) -> None:
        """All streams, of which the target has made the first token when this is over.

        `num_committed` of each stream's tokens are output of before, the others its prompt.
        """
        num_prompt = CONTEXT_TOKENS - num_committed - num_output
        for channel in range(NUM_STREAMS):
            asked = Open(
                *(channel, channel),
                prompt=pack_token_ids([40 + channel] * num_prompt),
                committed=pack_token_ids([41] * num_committed),
                sampling=GREEDY,
                max_tokens=num_committed + num_output,
            )
            for part in cut_open(asked):
                await board.send(part)
            await board.next_of(Opened)
        self.let_go(2)  # the first one holds what was there when it began
        for _ in range(NUM_STREAMS):
            await board.next_of(Verdict)
        board.received.clear()


@asynccontextmanager
async def long_streams() -> AsyncIterator[LongStreams]:
    """Their verifier; all prompts are read in one round."""
    rounds = threading.Semaphore(0)

    def wait(num_tokens: int) -> float:
        assert rounds.acquire(timeout=ROUND_PATIENCE_SECONDS), "no round was let go"
        return 0.0

    chunk_tokens = NUM_STREAMS * CONTEXT_TOKENS
    settings = msgspec.structs.replace(round_settings(), prefill_chunk_tokens=chunk_tokens)
    limits = msgspec.structs.replace(settings.schedule.limits, max_round_tokens=2 * chunk_tokens)
    schedule = msgspec.structs.replace(settings.schedule, limits=limits)
    service = scripted_service(
        settings=msgspec.structs.replace(settings, schedule=schedule),
        context_tokens=CONTEXT_TOKENS,
        num_blocks=(NUM_STREAMS + 1) * CONTEXT_TOKENS // 16,
        delay_seconds=wait,
    )
    device_limits = make_device_limits(context_tokens=None, prompt_bytes=4 * CONTEXT_TOKENS)
    async with running_verifier(service, device_limits=device_limits) as verifier:
        streams = LongStreams(verifier, rounds)
        try:
            yield streams
        finally:
            streams.let_go()
