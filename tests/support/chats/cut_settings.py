"""Who chats while links are cut: scripted models, or SmolLM2 in float32 with two real drafts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count, cycle

from edge_agent.draft_model.drafter import Drafter
from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.support.chats.chats import Chat
from tests.support.chats.cut_chats import Setting
from tests.support.chats.history import Undisturbed
from tests.support.chats.prompt_set import DRAFTS, TARGET, prompts
from tests.support.ends.loopback import generate, make_service, running_agent, running_verifier
from tests.support.ends.scripted import VOCAB_SIZE, board, scripted_service, target_text
from tests.support.statistics.sampled_text import token_ids_of
from verifier.engine.service import VerifierService

SCRIPTED_TOKENS = 300
REAL_TOKENS = 40
ROUND_SECONDS = 0.004


def scripted_setting() -> Setting:
    """Two boards, one slower and worse than the other; the text is the reference's own."""
    return Setting(
        make_service=lambda: scripted_service(delay_seconds=lambda _: ROUND_SECONDS),
        drafters=[board(0.1, seconds_per_token=0.0003), board(0.3, seconds_per_token=0.001)],
        chats=_scripted_chats(),
        undisturbed=_reference,
    )


@contextmanager
def real_setting(num_prompts: int = 16) -> Iterator[Setting]:
    """Undisturbed is the text of the target alone, one chat after the other."""
    # They take seconds to import; who wants the scripted setting does not wait.
    from edge_agent.draft_model.llama_drafter import LlamaDrafter
    from tests.support.models.real_models import real_model
    from tests.support.models.target_loading import load_on_cpu

    placed = load_on_cpu(real_model(TARGET), dtype="float32", kv_cache_tokens=16_384)

    def service() -> VerifierService:
        return make_service(placed.target, placed.tokenizer)

    with ExitStack() as stack:
        drafters: list[Drafter] = []
        for name in (DRAFTS[0], DRAFTS[2]):
            drafter = LlamaDrafter(real_model(name), 4, 1024, threads=1, batch_threads=1)
            stack.callback(drafter.close)
            drafters.append(drafter)
        chats = _real_chats(num_prompts)
        texts = asyncio.run(_alone(service(), drafters[0], chats))
        yield Setting(
            make_service=service,
            drafters=drafters,
            chats=cycle(chats),
            undisturbed=lambda chat: texts[chat.prompt],
            num_chats_at_once=2,
            heartbeat_seconds=1.0,
        )


def _scripted_chats() -> Iterator[Chat]:
    """Greedy, coupled at two temperatures, and rejection where it has no choice."""
    for i in count():
        prompt, seed = f"hello {i}", 50 + i
        match i % 4:
            case 0:
                yield Chat(prompt, GREEDY, seed, SCRIPTED_TOKENS)
            case 1:
                yield Chat(prompt, SamplingParameters(0.8), seed, SCRIPTED_TOKENS)
            case 2:
                yield Chat(prompt, SamplingParameters(1.0, top_p=0.9), seed, SCRIPTED_TOKENS)
            case _:
                sampling = SamplingParameters(1.0, top_k=1)
                yield Chat(prompt, sampling, seed, SCRIPTED_TOKENS, "rejection")


def _reference(chat: Chat) -> Undisturbed:
    text = target_text(chat.request)
    return Undisturbed(tuple(token_ids_of(text, VOCAB_SIZE)), text)


def _real_chats(num_prompts: int) -> list[Chat]:
    samplings = cycle((GREEDY, SamplingParameters(0.8)))
    return [
        Chat(prompt.text, sampling, seed, REAL_TOKENS)
        for seed, (prompt, sampling) in enumerate(
            zip(prompts()[:num_prompts], samplings, strict=False)
        )
    ]


async def _alone(
    service: VerifierService, drafter: Drafter, chats: list[Chat]
) -> dict[str, Undisturbed]:
    """By prompt."""
    texts = {}
    async with running_verifier(service) as verifier, running_agent(verifier, drafter) as agent:
        for chat in chats:
            text, finished = await generate(agent, chat.without_drafts)
            texts[chat.prompt] = Undisturbed(finished.token_ids, text)
    return texts
