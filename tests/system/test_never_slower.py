"""Boards that take the verifier's own time are told to rest, over real sockets and in real time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.draft_model.drafter import Forward
from edge_agent.draft_model.scripted_drafter import ScriptedDrafter
from edge_agent.generation.generation import GenerationRequest
from shared.protocol.messages import AcceptanceMode
from shared.speculation.sampling import SamplingParameters
from shared.speculation.scripted_model import ScriptedModel, scripted_token_bytes
from tests.support.ends.loopback import chat, generate, loopback, round_settings
from tests.support.ends.scripted import (
    MODEL_SEED,
    VOCAB_SIZE,
    scripted_service,
    target_text,
)
from verifier.rounds.planner import RoundSettings
from verifier.scheduling.draft_trial import Arm
from verifier.scheduling.fleet_record import Standing

NUM_BOARDS = 3
NUM_TOKENS = 300
ROUND_SECONDS = 0.01


class Core:
    """A processor that the verifier shares with its boards."""

    def __init__(self, slowdown: float) -> None:
        self._slowdown = slowdown
        self._lock = threading.Lock()
        self.num_computing = 0

    def count(self, change: int) -> None:
        with self._lock:
            self.num_computing += change

    def round_seconds(self, num_tokens: int) -> float:
        """Of a round that begins now."""
        return ROUND_SECONDS * (1.0 + self._slowdown * self.num_computing)


class BoardOnCore(ScriptedDrafter):
    """Agrees with the target four times in five, and takes 4 ms of the core for a token."""

    def __init__(self, core: Core) -> None:
        model = ScriptedModel(VOCAB_SIZE, MODEL_SEED, disagreement=0.2)
        super().__init__(
            model.logits, scripted_token_bytes(VOCAB_SIZE), num_slots=1, seconds_per_token=0.004
        )
        self._core = core

    def forward(self, batch: Sequence[Forward]) -> list[NDArray[np.float32] | None]:
        self._core.count(1)
        try:
            return super().forward(batch)
        finally:
            self._core.count(-1)


def measuring() -> RoundSettings:
    settings = round_settings(uses_guard=True)
    schedule = msgspec.structs.replace(settings.schedule, measures_payoff=True)
    return msgspec.structs.replace(settings, schedule=schedule)


def request(number: int, mode: AcceptanceMode) -> GenerationRequest:
    return GenerationRequest(
        messages=chat(f"question {number}"),
        sampling=SamplingParameters(temperature=0.7),
        seed=number,
        max_tokens=NUM_TOKENS,
        acceptance_mode=mode,
    )


@pytest.mark.parametrize("mode", ["coupled", pytest.param("rejection", marks=pytest.mark.slow)])
def test_boards_that_slow_all_down_rest_and_every_text_is_the_targets_own(
    mode: AcceptanceMode,
) -> None:
    core = Core(slowdown=2.0)
    service = scripted_service(settings=measuring(), delay_seconds=core.round_seconds)
    requests = [request(number, mode) for number in range(NUM_BOARDS)]

    async def chat_together() -> tuple[list[str], float]:
        boards = [BoardOnCore(core) for _ in requests]
        async with loopback(service, boards) as (_, agents):
            asked = zip(agents, requests, strict=True)
            answers = await asyncio.gather(*[generate(agent, one) for agent, one in asked])
            first_texts = [text for text, _ in answers]
            before = service.metrics.totals()
            await asyncio.gather(
                *[generate(agent, one) for agent, one in zip(agents, requests, strict=True)]
            )
            after = service.metrics.totals()
        num_tested = after.num_tested_tokens - before.num_tested_tokens
        return first_texts, num_tested / (after.num_output_tokens - before.num_output_tokens)

    texts, tested_share = asyncio.run(chat_together())
    payoff = service.planner.payoff
    assert (Standing.SLOWER, Arm.ALONE) == (payoff.standing, payoff.arm)
    assert tested_share < 0.25, "drafts are tested while they are measured again, and else not"
    assert all(texts)
    if mode == "coupled":
        assert [target_text(one) for one in requests] == texts
