"""The scripted target with its tokenizer and drafters, and the text that must come out of it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from edge_agent.draft_model.scripted_drafter import ScriptedDrafter, scripted_drafter
from edge_agent.generation.generation import GenerationRequest
from shared.protocol.text import TextAssembler
from shared.speculation.noise import Domain
from shared.speculation.probabilities import dense_probabilities
from shared.speculation.processed_logits import processed
from shared.speculation.scripted_model import ScriptedModel
from shared.speculation.verification import draw_dense
from tests.support.ends import endless_model
from tests.support.ends.loopback import make_service, round_settings
from verifier.engine.service import VerifierService
from verifier.policies import DraftPolicy
from verifier.rounds.planner import RoundSettings
from verifier.target.scripted_target import ScriptedLogits, ScriptedTarget
from verifier.target.scripted_tokenizer import ScriptedTokenizer

EndlessModel = endless_model.EndlessModel
MODEL_SEED = endless_model.MODEL_SEED
VOCAB_SIZE = endless_model.VOCAB_SIZE
_CATCHING_UP_SECONDS = 0.05
TARGET = EndlessModel(ScriptedModel(VOCAB_SIZE, MODEL_SEED))


def scripted_service(
    target: ScriptedLogits = TARGET,
    *,
    settings: RoundSettings | None = None,
    policy: DraftPolicy | None = None,
    delay_seconds: Callable[[int], float] = lambda num_tokens: 0.0,
    max_streams_per_device: int = 64,
    context_tokens: int = 4096,
    num_blocks: int | None = None,
) -> VerifierService:
    """A verifier without a port over a scripted target."""
    return make_service(
        ScriptedTarget(
            target,
            num_blocks=num_blocks or max(4096, context_tokens // 8),  # for two streams at least
            context_tokens=context_tokens,
            delay_seconds=delay_seconds,
        ),
        ScriptedTokenizer(target.vocab_size),
        settings or round_settings(),
        policy,
        max_streams_per_device=max_streams_per_device,
    )


def patient_service(
    *,
    settings: RoundSettings | None = None,
    policy: DraftPolicy | None = None,
    round_seconds: float = 0.0,
) -> VerifierService:
    """A verifier whose rounds wait for every draft, so that no busy machine makes one late.

    Until all boards have caught up rounds are slow.
    """

    def until_ready(_: int) -> float:
        are_ready = [stream.board_is_ready for stream in [*service.planner.streams.values()]]
        return round_seconds if all(are_ready) else max(round_seconds, _CATCHING_UP_SECONDS)

    service = scripted_service(
        settings=msgspec.structs.replace(settings or round_settings(), is_barrier=True),
        policy=policy,
        delay_seconds=until_ready,
    )
    return service


def board(
    disagreement: float = 0.2, *, num_slots: int = 4, seconds_per_token: float = 0.0
) -> ScriptedDrafter:
    """A drafter that agrees with `TARGET` more or less."""
    model = ScriptedModel(VOCAB_SIZE, MODEL_SEED, disagreement=disagreement)
    return scripted_drafter(model, num_slots=num_slots, seconds_per_token=seconds_per_token)


def target_text(request: GenerationRequest, target: ScriptedLogits = TARGET) -> str:
    """What the target alone writes in `coupled` (greedy is a part of it), by the reference."""
    assert request.seed is not None
    assert request.max_tokens is not None
    tokenizer = ScriptedTokenizer(target.vocab_size)
    chat = request.messages
    tokens = tokenizer.encode_chat(chat) if chat else tokenizer.encode_text(request.text)
    prompt = list(tokens)
    text = TextAssembler(tokenizer.token_bytes, tokenizer.special_ids, request.stop)
    pieces = []
    for position in range(request.max_tokens):
        logits = processed(
            target.logits(tokens),
            request.processors,
            request.sampling,
            prompt_ids=prompt,
            output_ids=tokens[len(prompt) :],
            end_ids=tokenizer.end_ids,
        )
        probs = dense_probabilities(logits, request.sampling)
        tokens.append(draw_dense(probs, request.seed, position, Domain.COUPLED))
        if tokens[-1] in request.processors.stop_token_ids:
            break
        pieces.append(text.push(tokens[-1]))
        if tokens[-1] in tokenizer.end_ids or text.is_stopped:
            break
    return "".join(pieces) + text.close()
