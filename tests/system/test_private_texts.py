"""Neither prompts nor answers are in logs or metrics, at whatever level, nor what was refused."""

from __future__ import annotations

import asyncio
import logging

import pytest

from edge_agent.generation.generation import GenerationRequest
from shared.errors import RequestRefused
from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.support.ends.loopback import chat, generate, loopback
from tests.support.ends.scripted import board, scripted_service

CONTEXT_TOKENS = 512
SECRET = "a violet giraffe"
STOP = "orange zebra"
ASKED = (
    GenerationRequest(messages=chat(SECRET), sampling=GREEDY, seed=3, max_tokens=40, stop=(STOP,)),
    GenerationRequest(text=SECRET, sampling=SamplingParameters(0.8), max_tokens=40),
)


def test_no_text_of_a_client_is_in_the_logs_or_the_metrics(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)

    async def scenario() -> tuple[list[str], str]:
        async with loopback(scripted_service(context_tokens=CONTEXT_TOKENS), [board()]) as running:
            verifier, (agent,) = running
            answers = [(await generate(agent, asked))[0] for asked in ASKED]
            with pytest.raises(RequestRefused):
                await generate(agent, GenerationRequest(text=SECRET * CONTEXT_TOKENS))
            return answers, verifier.service.metrics.page().decode()

    answers, page = asyncio.run(scenario())
    logged = "\n".join(
        f"{record.getMessage()} {record.exc_text or ''}" for record in caplog.records
    )
    assert "device board-0 connected" in logged
    assert 'device="board-0"' in page
    for text in (SECRET, STOP, *answers):
        assert len(text) > 10
        assert text not in logged
        assert text not in page
