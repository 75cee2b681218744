"""What rounds say of wrong drafts is noted by stream, and kept when it ends."""

from __future__ import annotations

import asyncio

from edge_agent.generation.generation import GenerationRequest
from shared.speculation.sampling import SamplingParameters
from shared.speculation.scripted_model import ScriptedModel
from tests.support.ends.loopback import chat, generate, running_agent, running_verifier
from tests.support.ends.scripted import (
    MODEL_SEED,
    TARGET,
    VOCAB_SIZE,
    board,
    scripted_service,
    target_text,
)
from verifier.online.text_memory import TextMemory
from verifier.online.wrong_drafts import WrongDrafts
from verifier.target.scripted_target import ScriptedLogits

GREEDY = SamplingParameters(temperature=0.0)


def request(seed: int) -> GenerationRequest:
    return GenerationRequest(messages=chat(f"hi {seed}"), sampling=GREEDY, seed=seed, max_tokens=60)


def kept_after(
    disagreement: float,
    private: frozenset[str] = frozenset(),
    target: ScriptedLogits = TARGET,
) -> TextMemory:
    """What is there after four answers for a board with such a draft."""
    memory = TextMemory(100_000, 60.0)
    wrong = WrongDrafts(memory, lambda: 0.0)
    wrong.keep_private(private)

    async def scenario() -> None:
        service = scripted_service(target, delay_seconds=lambda _: 0.03)
        service.metrics.watchers.append(wrong)
        async with (
            running_verifier(service) as verifier,
            running_agent(verifier, board(disagreement)) as agent,
        ):
            for seed in range(1, 5):
                text, _ = await generate(agent, request(seed))
                assert target_text(request(seed), target) == text

    asyncio.run(scenario())
    assert {} == wrong._wrong, "nothing of streams that ended stays there"
    return memory


def test_wrong_drafts_leave_texts_and_right_ones_none() -> None:
    bad = kept_after(0.8)
    assert len(bad)
    assert bad.num_wrong >= len(bad)
    assert all(text.is_greedy for text in bad.texts())
    same = ScriptedModel(VOCAB_SIZE, MODEL_SEED)
    assert 0 == len(kept_after(0.0, target=same))


def test_of_a_private_device_nothing_is_kept() -> None:
    assert 0 == len(kept_after(0.8, frozenset({"board"})))
