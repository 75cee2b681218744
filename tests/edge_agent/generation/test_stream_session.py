"""A request that is silent about sampling is sampled as the target's model says, at both ends."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from edge_agent.generation.generation import GenerationRequest
from edge_agent.generation.stream_session import StreamSession
from shared.protocol.messages import Open, Opened
from shared.protocol.token_ids import pack_token_ids
from shared.speculation.logit_processors import NO_PROCESSORS, LogitProcessors
from shared.speculation.model_defaults import ModelDefaults, ProcessorField
from shared.speculation.sampling import PLAIN_SAMPLING, SamplingField, SamplingParameters
from tests.support.ends.loopback import (
    DRAFT_SETTINGS,
    chat,
    generate,
    running_agent,
    running_verifier,
)
from tests.support.ends.scripted import board, scripted_service, target_text

OF_THE_MODEL = SamplingParameters(temperature=0.3, top_k=5, top_p=0.9)
ALL: tuple[SamplingField, ...] = ("temperature", "top_k", "top_p")
PENALTY = LogitProcessors(repetition_penalty=1.3)
BOTH: tuple[ProcessorField, ...] = ("min_p", "repetition_penalty")


def request(
    sampling: SamplingParameters = PLAIN_SAMPLING, left_open: tuple[SamplingField, ...] = ()
) -> GenerationRequest:
    return GenerationRequest(
        messages=chat("hello"), sampling=sampling, left_open=left_open, seed=1, max_tokens=40
    )


def text_of(
    asked: GenerationRequest, of_the_model: SamplingParameters
) -> tuple[str, SamplingParameters]:
    """And the sampling in force: by an agent and a verifier whose model has these defaults."""

    async def text() -> tuple[str, SamplingParameters]:
        service = scripted_service()
        service.model_defaults = ModelDefaults(of_the_model)
        async with running_verifier(service) as verifier, running_agent(verifier, board()) as agent:
            text, finished = await generate(agent, asked)
            return text, finished.sampling

    return asyncio.run(text())


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (request(left_open=ALL), OF_THE_MODEL),
        (
            request(SamplingParameters(temperature=1.0), ("top_k", "top_p")),
            SamplingParameters(temperature=1.0, top_k=5, top_p=0.9),
        ),
        (
            request(SamplingParameters(temperature=0.0), ("top_k", "top_p")),
            SamplingParameters(temperature=0.0, top_k=5, top_p=0.9),
        ),
        (request(), PLAIN_SAMPLING),
    ],
)
def test_the_models_own_sampling_holds_where_the_request_is_silent(
    asked: GenerationRequest, expected: SamplingParameters
) -> None:
    assert (target_text(request(expected)), expected) == text_of(asked, OF_THE_MODEL)


def test_a_model_that_says_greedy_is_greedy() -> None:
    expected = target_text(request(SamplingParameters(0.0)))
    assert expected == text_of(request(left_open=ALL), SamplingParameters(0.0))[0]


def test_penalties_that_the_model_asks_for_are_told_with_the_answer() -> None:
    own = ModelDefaults(processors=LogitProcessors(repetition_penalty=1.05))

    async def in_force(left_open: tuple[ProcessorField, ...]) -> LogitProcessors:
        service = scripted_service()
        service.model_defaults = own
        asked = msgspec.structs.replace(request(), processors_left_open=left_open)
        async with running_verifier(service) as verifier, running_agent(verifier, board()) as agent:
            return (await generate(agent, asked))[1].processors

    assert own.processors == asyncio.run(in_force(("min_p", "repetition_penalty")))
    assert LogitProcessors() == asyncio.run(in_force(("min_p",)))


def test_what_opened_tells_is_drafted_with_and_asked_for_when_the_stream_is_opened_again() -> None:
    session = StreamSession(request(left_open=("top_k", "top_p")), DRAFT_SETTINGS, vocab_size=64)
    first = session.open_message(1)
    assert isinstance(first, Open)
    assert ("top_k", "top_p") == first.left_open
    opened = Opened(1, pack_token_ids([3, 4]), 1, "coupled", sampling=OF_THE_MODEL)
    session.receive(opened, 10, 0.0)
    settled = msgspec.structs.replace(OF_THE_MODEL, temperature=1.0)
    assert settled == session.stream.sampling
    again = session.open_message(2)
    assert isinstance(again, Open)
    assert (settled, ()) == (again.sampling, again.left_open)


def test_a_verifier_that_does_not_know_left_open_fields_changes_nothing() -> None:
    asked = request(SamplingParameters(temperature=0.5), ("top_k", "top_p"))
    session = StreamSession(asked, DRAFT_SETTINGS, vocab_size=64)
    session.open_message(1)
    session.receive(Opened(1, pack_token_ids([3, 4]), 1, "coupled"), 10, 0.0)
    assert SamplingParameters(temperature=0.5) == session.stream.sampling


@pytest.mark.parametrize(
    ("left_open", "of_the_model", "in_force"),
    [
        (BOTH, PENALTY, PENALTY),
        (("min_p",), PENALTY, NO_PROCESSORS),
        ((), PENALTY, NO_PROCESSORS),
        (BOTH, LogitProcessors(min_p=0.2), LogitProcessors(min_p=0.2)),
    ],
)
def test_the_models_own_penalty_and_min_p_hold_where_the_request_is_silent(
    left_open: tuple[ProcessorField, ...], of_the_model: LogitProcessors, in_force: LogitProcessors
) -> None:
    asked = msgspec.structs.replace(request(), processors_left_open=left_open)

    async def text(asked: GenerationRequest) -> str:
        service = scripted_service()
        service.model_defaults = ModelDefaults(processors=of_the_model)
        async with running_verifier(service) as verifier, running_agent(verifier, board()) as agent:
            return (await generate(agent, asked))[0]

    explicit = msgspec.structs.replace(request(), processors=in_force)
    assert asyncio.run(text(explicit)) == asyncio.run(text(asked))


def test_processors_that_opened_tells_are_drafted_with_and_asked_for_again() -> None:
    asked = msgspec.structs.replace(
        request(),
        processors=LogitProcessors(presence_penalty=1.0),
        processors_left_open=BOTH,
    )
    session = StreamSession(asked, DRAFT_SETTINGS, vocab_size=64)
    first = session.open_message(1)
    assert isinstance(first, Open)
    assert BOTH == first.processors_left_open
    in_force = LogitProcessors(presence_penalty=1.0, repetition_penalty=1.3)
    session.receive(Opened(1, pack_token_ids([3]), 1, "coupled", processors=in_force), 10, 0.0)
    assert in_force == session.stream.changes.processors
    again = session.open_message(2)
    assert isinstance(again, Open)
    assert (in_force, ()) == (again.processors, again.processors_left_open)
