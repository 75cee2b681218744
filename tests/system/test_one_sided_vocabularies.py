"""Draft and target of one family, of which one has more ids: drafts help, and the text is exact."""

from __future__ import annotations

import asyncio
import logging

import pytest

from edge_agent.draft_model.scripted_drafter import ScriptedDrafter, scripted_drafter
from edge_agent.generation.agent import Agent
from edge_agent.generation.generation import Finished, GenerationRequest
from shared.errors import HandshakeRejected, LinkError
from shared.protocol.messages import AcceptanceMode
from shared.speculation.sampling import GREEDY, SamplingParameters
from shared.speculation.scripted_model import ScriptedModel, scripted_token_bytes
from tests.support.ends.loopback import DRAFT_SETTINGS, generate, running_agent, running_verifier
from tests.support.ends.scripted import (
    MODEL_SEED,
    VOCAB_SIZE,
    scripted_service,
    target_text,
)

SAMPLINGS = (GREEDY, SamplingParameters(temperature=1.5))  # hot enough for every id
ROUND_SECONDS = 0.003  # boards need less for their drafts
SIZES = (1, 40, VOCAB_SIZE - 1, VOCAB_SIZE + 1, 3000)


def drafter_of(vocab_size: int) -> ScriptedDrafter:
    """The target's own logits, for as many ids as it has."""
    model = ScriptedModel(max(vocab_size, 2), MODEL_SEED)
    drafter = scripted_drafter(model)
    drafter.token_bytes = scripted_token_bytes(max(vocab_size, 2))[:vocab_size]
    return drafter


def request(sampling: SamplingParameters, mode: AcceptanceMode = "coupled") -> GenerationRequest:
    return GenerationRequest(
        text="all of it", sampling=sampling, seed=5, max_tokens=200, acceptance_mode=mode
    )


@pytest.mark.parametrize("vocab_size", SIZES)
def test_the_text_is_the_targets_own(vocab_size: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def run() -> list[tuple[str, Finished]]:
        async with (
            running_verifier(
                scripted_service(delay_seconds=lambda _: ROUND_SECONDS), ["board"]
            ) as verifier,
            running_agent(verifier, drafter_of(vocab_size)) as agent,
        ):
            return [await generate(agent, request(sampling)) for sampling in SAMPLINGS]

    texts = asyncio.run(run())
    assert [target_text(request(sampling)) for sampling in SAMPLINGS] == [t for t, _ in texts]
    if vocab_size > 1:
        assert all(finished.timings.accepted_tokens for _, finished in texts)
    shared, lacked = min(vocab_size, VOCAB_SIZE), max(0, vocab_size - VOCAB_SIZE)
    lines = [record.getMessage() for record in caplog.records]
    sentence = f"share {shared} ids; {lacked} of the draft model are never drafted"
    assert f"draft and target {sentence}" in lines


def test_a_text_with_ids_that_only_the_target_has_is_whole() -> None:
    """The board learns their bytes in the greeting."""
    text = target_text(request(SAMPLINGS[1]))
    only_there = {token.decode().strip() for token in scripted_token_bytes(VOCAB_SIZE)[40:]}
    assert only_there & set(text.split())


def test_a_real_difference_is_final_whatever_else_one_side_lacks() -> None:
    drafter = drafter_of(40)
    drafter.token_bytes = (*drafter.token_bytes[:20], b"other", *drafter.token_bytes[21:])

    async def run() -> str:
        async with running_verifier(scripted_service(), ["board"]) as verifier:
            agent = Agent(drafter, DRAFT_SETTINGS, url=verifier.url, token=verifier.tokens["board"])
            task = asyncio.create_task(agent.run())
            try:
                return await _refusal(agent)
            finally:
                task.cancel()
                await asyncio.wait([task])

    token = scripted_token_bytes(VOCAB_SIZE)[20]
    assert f"token id 20 is b'other' here and {token!r} there" in asyncio.run(run())


async def _refusal(agent: Agent) -> str:
    """What a client is told."""
    told: list[str] = []

    async def ask() -> bool:
        try:
            await generate(agent, request(GREEDY))
        except HandshakeRejected as error:
            told.append(str(error))
        except LinkError:
            pass
        return bool(told)

    while not await ask():  # noqa: ASYNC110 - what is waited for knows no event
        await asyncio.sleep(0)
    return told[0]
