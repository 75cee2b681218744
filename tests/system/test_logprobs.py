"""Clients read the target's own log-probabilities, of every token once, drafted or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import ollama
import pytest
from openai import AsyncOpenAI

import edge_agent.link.backoff
from edge_agent.generation.generation import Finished, GenerationRequest, ScoredToken, TextPiece
from shared.protocol.messages import AcceptanceMode
from shared.speculation.logit_processors import LogitProcessors
from shared.speculation.sampling import SamplingParameters
from shared.speculation.scripted_model import ScriptedModel, scripted_token_bytes
from tests.support.ends.api_server import serving
from tests.support.ends.loopback import (
    generate,
    round_settings,
    running_agent,
    running_verifier,
)
from tests.support.ends.scripted import (
    MODEL_SEED,
    TARGET,
    VOCAB_SIZE,
    board,
    patient_service,
    scripted_service,
)
from tests.support.ends.waiting import eventually
from tests.support.network.chaos_proxy import ChaosProxy, local
from verifier.policies import FixedPolicy
from verifier.target.scripted_target import ScriptedLogits, token_logprobs
from verifier.target.scripted_tokenizer import ScriptedTokenizer

TOKEN_BYTES = scripted_token_bytes(VOCAB_SIZE)
ENDING = ScriptedModel(VOCAB_SIZE, MODEL_SEED)
NUM_OTHERS = 4


def asked(mode: AcceptanceMode = "coupled", **fields: Any) -> GenerationRequest:
    wanted: dict[str, Any] = {
        "text": "hello",
        "sampling": SamplingParameters(0.8, top_p=0.9),
        "seed": 5,
        "max_tokens": 60,
        "acceptance_mode": mode,
        "processors": LogitProcessors(frequency_penalty=0.5),
        "num_logprobs": NUM_OTHERS,
    }
    return GenerationRequest(**(wanted | fields))


def expected(finished: Finished, num_told: int, target: ScriptedLogits) -> Iterator[ScoredToken]:
    """What the reference says of the tokens that came out, to the last bit of a float32."""
    tokens = ScriptedTokenizer(VOCAB_SIZE).encode_text("hello")
    for token_id in finished.token_ids[:num_told]:
        scored = token_logprobs(target.logits(tokens), token_id, NUM_OTHERS)
        assert scored.logprob is not None
        top = tuple((TOKEN_BYTES[other], pytest.approx(one, abs=1e-6)) for other, one in scored.top)
        yield ScoredToken(TOKEN_BYTES[token_id], pytest.approx(scored.logprob, abs=1e-6), top)
        tokens.append(token_id)


@pytest.mark.parametrize("mode", ["coupled", "rejection"])
def test_they_are_the_targets_own_and_come_with_the_text_of_their_tokens(
    mode: AcceptanceMode,
) -> None:
    pieces: list[TextPiece] = []

    async def ended() -> Finished:
        service = patient_service(
            settings=round_settings(max_draft_length=4, max_window=9), policy=FixedPolicy(4)
        )
        async with (
            running_verifier(service) as verifier,
            running_agent(verifier, board(0.1)) as agent,
        ):
            async for event in agent.generate(asked(mode, stop=(" never said",))):
                if isinstance(event, Finished):
                    return event
                pieces.append(event)
        raise AssertionError("no end")

    finished = asyncio.run(ended())
    assert finished.timings.accepted_tokens > 3
    assert list(expected(finished, 60, TARGET)) == list(finished.logprobs)
    told = [token for piece in pieces for token in piece.logprobs]
    assert list(finished.logprobs[: len(told)]) == told
    assert "".join(piece.text for piece in pieces).encode() == b"".join(t.token for t in told)


def test_an_end_that_is_no_text_has_none_and_neither_has_a_stop_token() -> None:
    async def finished(request: GenerationRequest) -> Finished:
        async with (
            running_verifier(scripted_service(ENDING)) as verifier,
            running_agent(verifier, board(0.0)) as agent,
        ):
            return (await generate(agent, request))[1]

    ended = asyncio.run(finished(asked(max_tokens=2000)))
    assert "end" == ended.reason
    num_told = len(ended.token_ids) - 1
    assert list(expected(ended, num_told, ENDING)) == list(ended.logprobs)
    stops = LogitProcessors(frequency_penalty=0.5, stop_token_ids=(ended.token_ids[1],))
    stopped = asyncio.run(finished(asked(processors=stops)))
    num_told = len(stopped.token_ids) - 1
    assert ("stop", num_told) == (stopped.reason, len(stopped.logprobs))


def test_each_is_told_once_where_the_link_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_agent.link.backoff, "FIRST_DELAY_SECONDS", 0.02)
    service = scripted_service(delay_seconds=lambda _: 0.002)

    async def finished() -> Finished:
        async with (
            running_verifier(service) as verifier,
            ChaosProxy(local(verifier.port)) as proxy,
            running_agent(verifier, board(0.1), url=proxy.url) as agent,
        ):
            running = asyncio.create_task(generate(agent, asked(max_tokens=120)))
            for num_committed in (20, 60):
                await eventually(
                    lambda at=num_committed: any(  # type: ignore[misc]
                        stream.position >= at for stream in service.planner.streams.values()
                    )
                )
                proxy.reset()
            return (await running)[1]

    ended = asyncio.run(finished())
    assert list(expected(ended, 120, TARGET)) == list(ended.logprobs)


# --- OpenAI's shapes ------------------------------------------------------------------------------

USER: Any = [{"role": "user", "content": "hi"}]


@asynccontextmanager
async def api() -> AsyncIterator[str]:
    async with (
        running_verifier(scripted_service()) as verifier,
        running_agent(verifier, board(0.1)) as agent,
        serving(agent) as url,
    ):
        yield url


@asynccontextmanager
async def client_of() -> AsyncIterator[AsyncOpenAI]:
    async with (
        api() as url,
        AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client,
    ):
        yield client


def test_a_chat_tells_them_whole_and_streamed() -> None:
    async def scenario() -> None:
        async with client_of() as client:
            wanted: dict[str, Any] = {
                "model": "any",
                "messages": USER,
                "seed": 3,
                "max_tokens": 12,
                "logprobs": True,
                "top_logprobs": 2,
            }
            answer = await client.chat.completions.create(**wanted)
            told = answer.choices[0].logprobs
            assert told is not None
            assert told.content is not None
            text = answer.choices[0].message.content
            assert (12, text) == (len(told.content), "".join(one.token for one in told.content))
            for one in told.content:
                assert list(one.token.encode()) == one.bytes
                assert 2 == len(one.top_logprobs)
                assert one.top_logprobs[0].logprob >= max(one.top_logprobs[1].logprob, one.logprob)
            streamed = []
            async for chunk in await client.chat.completions.create(stream=True, **wanted):
                of_chunk = chunk.choices[0].logprobs
                streamed += of_chunk.content or [] if of_chunk is not None else []
            assert told.content == streamed

    asyncio.run(scenario())


def test_a_completion_tells_them_whole_and_streamed() -> None:
    async def scenario() -> None:
        async with client_of() as client:
            wanted: dict[str, Any] = {
                "model": "any",
                "prompt": "hello",
                "seed": 3,
                "max_tokens": 8,
                "logprobs": 1,
            }
            answer = await client.completions.create(**wanted)
            (choice,) = answer.choices
            told = choice.logprobs
            assert told is not None
            assert told.tokens is not None
            assert told.text_offset is not None
            assert choice.text == "".join(told.tokens)
            for token, offset in zip(told.tokens, told.text_offset, strict=True):
                assert choice.text[offset:].startswith(token)
            assert told.top_logprobs is not None
            assert told.token_logprobs is not None
            for token, logprob, top in zip(
                told.tokens, told.token_logprobs, told.top_logprobs, strict=True
            ):
                assert logprob == top[token]
            offsets = []
            async for chunk in await client.completions.create(stream=True, **wanted):
                of_chunk = chunk.choices[0].logprobs
                offsets += of_chunk.text_offset or [] if of_chunk is not None else []
            assert told.text_offset == offsets

    asyncio.run(scenario())


def test_the_best_of_several_are_the_likeliest_and_all_are_counted() -> None:
    async def scenario() -> None:
        async with client_of() as client:
            wanted: dict[str, Any] = {
                "model": "any",
                "prompt": ["hello", "you"],
                "seed": 3,
                "max_tokens": 8,
            }
            every = await client.completions.create(**wanted, n=4, logprobs=0)
            means = [sum(c.logprobs.token_logprobs or []) / 8 for c in every.choices if c.logprobs]
            expected = []
            for start in (0, 4):
                ranked = sorted(range(start, start + 4), key=means.__getitem__, reverse=True)
                expected += [every.choices[i].text for i in ranked[:2]]
            best = await client.completions.create(**wanted, n=2, best_of=4)
            assert expected == [choice.text for choice in best.choices]
            assert [(i, None) for i in range(4)] == [(c.index, c.logprobs) for c in best.choices]
            assert best.usage is not None
            assert every.usage is not None
            assert (64, every.usage.prompt_tokens) == (
                best.usage.completion_tokens,
                best.usage.prompt_tokens,
            )
            one = await client.completions.create(**wanted, best_of=4, logprobs=1)
            assert expected[::2] == [choice.text for choice in one.choices]
            assert all(choice.logprobs is not None for choice in one.choices)

    asyncio.run(scenario())


def test_ollamas_client_reads_those_of_openais() -> None:
    async def scenario() -> None:
        async with (
            api() as url,
            AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client,
            ollama.AsyncClient(url) as other,  # type: ignore[attr-defined]
        ):
            wanted: Any = {"messages": USER, "logprobs": True, "top_logprobs": 2}
            fields: Any = {"model": "any", "seed": 3, "max_tokens": 12, **wanted}
            openais = (await client.chat.completions.create(**fields)).choices[0].logprobs
            assert openais is not None
            expected = [(one.token, one.logprob) for one in openais.content or []]
            asked: Any = {"options": {"seed": 3, "num_predict": 12}, **wanted}
            whole = await other.chat("any", **asked)
            assert expected == [(one.token, one.logprob) for one in whole.logprobs or []]
            assert all(len(one.top_logprobs or []) == 2 for one in whole.logprobs or [])
            lines = [line async for line in await other.chat("any", stream=True, **asked)]
            told = [one for line in lines for one in line.logprobs or []]
            assert expected == [(one.token, one.logprob) for one in told]
            assert len(lines) > 2

    asyncio.run(scenario())


def test_who_does_not_ask_is_told_none() -> None:
    async def scenario() -> None:
        async with client_of() as client:
            answer = await client.chat.completions.create(
                model="any", messages=USER, max_tokens=3, logprobs=False, top_logprobs=0
            )
            assert answer.choices[0].logprobs is None

    asyncio.run(scenario())
