"""Clients read what the target thinks of a prompt's own tokens, however it came to be read."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from operator import itemgetter
from typing import Any

import aiohttp
import msgspec
import pytest
from openai import AsyncOpenAI, BadRequestError

import edge_agent.link.backoff
from edge_agent.api.openai_routes import OpenAIAnswer
from edge_agent.generation.generation import Finished, GenerationRequest, PromptPiece
from edge_agent.generation.prompt_telling import UntoldPrompt
from shared.protocol.logprobs import TokenLogprobs
from shared.speculation.sampling import GREEDY
from shared.speculation.scripted_model import scripted_token_bytes
from tests.support.ends.api_server import serving
from tests.support.ends.loopback import generate, round_settings, running_agent, running_verifier
from tests.support.ends.scripted import TARGET, VOCAB_SIZE, board, scripted_service
from tests.support.ends.waiting import eventually
from tests.support.network.chaos_proxy import ChaosProxy, local
from verifier.engine.service import VerifierService
from verifier.target.round import Round, RoundOutcome
from verifier.target.scripted_target import token_logprobs
from verifier.target.scripted_tokenizer import ScriptedTokenizer

TOKEN_BYTES = scripted_token_bytes(VOCAB_SIZE)
TOKENIZER = ScriptedTokenizer(VOCAB_SIZE)
NUM_OTHERS = 3
TEXT = "what a target thinks of these words " * 12  # more than a round may score


def scored(token_ids: Sequence[int], num_others: int = NUM_OTHERS) -> list[TokenLogprobs]:
    """What the reference says of each but the first."""
    return [
        token_logprobs(TARGET.logits(list(token_ids[:end])), token_ids[end], num_others)
        for end in range(1, len(token_ids))
    ]


def assert_is_told(piece: PromptPiece, token_ids: Sequence[int]) -> None:
    """All of them, to the last bit of a float32."""
    assert tuple(token_ids) == piece.token_ids
    first, *rest = piece.logprobs
    assert (None, ()) == (first.logprob, first.top)
    expected = scored(token_ids)
    assert len(expected) == len(rest)
    for token, own_id, told, top_ids in zip(
        expected, token_ids[1:], rest, piece.top_ids[1:], strict=True
    ):
        assert TOKEN_BYTES[own_id] == told.token
        assert pytest.approx(token.logprob, abs=1e-6) == told.logprob
        assert tuple(other for other, _ in token.top) == top_ids
        assert [pytest.approx(p, abs=1e-6) for _, p in token.top] == [p for _, p in told.top]


def asked(**fields: Any) -> GenerationRequest:
    wanted: dict[str, Any] = {
        "text": TEXT,
        "sampling": GREEDY,
        "max_tokens": 8,
        "tells_prompt": True,
        "num_prompt_logprobs": NUM_OTHERS,
    }
    return GenerationRequest(**(wanted | fields))


async def told(agent: Any, request: GenerationRequest) -> tuple[PromptPiece, Finished]:
    """The prompt, which is the first event, and the end."""
    events = [event async for event in agent.generate(request)]
    assert isinstance(events[0], PromptPiece)
    assert not any(isinstance(event, PromptPiece) for event in events[1:])
    assert isinstance(events[-1], Finished)
    return events[0], events[-1]


def test_they_are_the_targets_own_whatever_the_cache_holds() -> None:
    async def scenario() -> None:
        async with (
            running_verifier(scripted_service()) as verifier,
            running_agent(verifier, board(0.1)) as agent,
        ):
            plain = (await generate(agent, asked(tells_prompt=False)))[1]
            piece, finished = await told(agent, asked())
            assert_is_told(piece, TOKENIZER.encode_text(TEXT))
            assert TEXT == piece.text
            assert plain.token_ids == finished.token_ids
            again = (await generate(agent, asked(tells_prompt=False)))[1]
            cached = [one.timings.cached_prefix_tokens for one in (plain, finished, again)]
            assert (0, 0) == tuple(cached[:2])
            assert cached[2] > len(TEXT) // 2

    asyncio.run(scenario())


def test_a_prompt_that_loses_its_place_is_not_scored_twice_and_lacks_nothing() -> None:
    """Two that do not fit the cache together take it from each other."""
    service = scripted_service(
        settings=msgspec.structs.replace(round_settings(), reserved_output_tokens=16),
        num_blocks=len(TEXT) // 16 + 12,
        context_tokens=600,
        delay_seconds=lambda _: 0.001,
    )

    async def scenario() -> None:
        async with (
            running_verifier(service) as verifier,
            running_agent(verifier, board(0.1)) as agent,
        ):
            other = "and other ones, too, "
            pairs = await asyncio.gather(
                told(agent, asked(max_tokens=60)),
                told(agent, asked(text=other * 4, max_tokens=150)),
                told(agent, asked(text=other * 3, max_tokens=150)),
            )
            for (piece, _), text in zip(pairs, (TEXT, other * 4, other * 3), strict=True):
                assert_is_told(piece, TOKENIZER.encode_text(text))

    asyncio.run(scenario())
    assert service.planner.admission.num_preemptions > 0


def test_they_are_told_once_where_the_link_is_cut_while_they_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(edge_agent.link.backoff, "FIRST_DELAY_SECONDS", 0.02)
    service = scripted_service(delay_seconds=lambda _: 0.02)

    async def scenario() -> None:
        async with (
            running_verifier(service) as verifier,
            ChaosProxy(local(verifier.port)) as proxy,
            running_agent(verifier, board(0.1), url=proxy.url) as agent,
        ):
            running = asyncio.create_task(told(agent, asked(max_tokens=40)))
            await eventually(lambda: _num_scored(service) > 0)
            proxy.reset()
            await eventually(lambda: any(s.position > 3 for s in service.planner.streams.values()))
            proxy.reset()
            piece, finished = await running
            assert_is_told(piece, TOKENIZER.encode_text(TEXT))
            assert 40 == len(finished.token_ids)

    asyncio.run(scenario())


def _num_scored(service: VerifierService) -> int:
    return sum(len(stream.logprobs.prompt) for stream in service.planner.streams.values())


def test_of_more_than_may_be_told_nothing_is_begun() -> None:
    service = scripted_service(context_tokens=1 << 15)

    async def scenario() -> None:
        async with api(service) as (_, client):
            with pytest.raises(BadRequestError, match="1598 tokens can be told") as refused:
                await client.completions.create(
                    model="any", prompt=[5] * 1599, echo=True, logprobs=20, max_tokens=1
                )
            assert "prompt_logprobs" == refused.value.param

    asyncio.run(scenario())


@pytest.mark.parametrize("is_chat", [False, True])
def test_a_prompt_of_several_choices_is_scored_once(is_chat: bool) -> None:
    service = scripted_service()
    num_scored: list[int] = []
    run = service.target.run

    def counted(round_: Round) -> RoundOutcome:
        num_scored.append(round_.num_prompt_rows)
        return run(round_)

    service.target.run = counted  # type: ignore[method-assign]

    async def scenario() -> None:
        async with api(service) as (_, client):
            if is_chat:
                turn: Any = [{"role": "user", "content": TEXT}]
                more: dict[str, Any] = {"extra_body": {"prompt_logprobs": 1}, "max_tokens": 3}
                chat = await client.chat.completions.create(model="any", messages=turn, n=3, **more)
                assert 3 == len(chat.choices)
                assert chat.usage is not None
                assert chat.usage.prompt_tokens - 1 == sum(num_scored)
                return
            answer = await client.completions.create(
                model="any", prompt=[TEXT, "or "], n=3, echo=True, logprobs=1, max_tokens=3
            )
            of_first, of_second = answer.choices[:3], answer.choices[3:]
            lengths = [len(TOKENIZER.encode_text(text)) for text in (TEXT, "or ")]
            for choices, text, length in zip(
                (of_first, of_second), (TEXT, "or "), lengths, strict=True
            ):
                told = [c.logprobs.token_logprobs for c in choices if c.logprobs is not None]
                assert all(choice.text.startswith(text) for choice in choices)
                assert 3 == len(told)
                assert 1 == len({tuple((one or [])[:length]) for one in told})
            assert sum(lengths) - len(lengths) == sum(num_scored)

    asyncio.run(scenario())


# --- clients --------------------------------------------------------------------------------------


@asynccontextmanager
async def api(
    service: VerifierService | None = None,
) -> AsyncIterator[tuple[str, AsyncOpenAI]]:
    async with (
        running_verifier(service or scripted_service()) as verifier,
        running_agent(verifier, board(0.1)) as agent,
        serving(agent) as url,
        AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client,
    ):
        yield url, client


def lm_eval_scores(
    answer: dict[str, Any], context_lengths: Sequence[int]
) -> list[tuple[float, bool]]:
    """What EleutherAI's harness makes of an answer (`local-completions`): sum, and is it greedy."""
    scores = []
    choices = sorted(answer["choices"], key=itemgetter("index"))
    for choice, context_length in zip(choices, context_lengths, strict=True):
        own = choice["logprobs"]["token_logprobs"][context_length:-1]
        top = choice["logprobs"]["top_logprobs"][context_length:-1]
        is_greedy = all(p == max(of_token.values()) for p, of_token in zip(own, top, strict=True))
        scores.append((sum(own), is_greedy))
    return scores


def test_the_requests_of_lm_eval_are_answered_as_it_counts() -> None:
    """Its exact body: token ids, several prompts, one token at the end that it leaves out."""
    questions = [(TOKENIZER.encode_text(a), b) for a, b in (("Is it? ", "Yes, it is"), ("So", ""))]
    pairs = [(context, TOKENIZER.encode_text(said) if said else []) for context, said in questions]
    greedy = list(pairs[1][0])
    for _ in range(4):
        greedy.append(int(TARGET.logits(greedy).argmax()))
    pairs[1] = (pairs[1][0], greedy[len(pairs[1][0]) :])
    prompts = [context + said for context, said in pairs]
    body = {
        "model": "any",
        "prompt": prompts,
        "temperature": 0,
        "max_tokens": 1,
        "logprobs": 1,
        "seed": 1234,
        "echo": True,
    }

    async def scenario() -> None:
        async with api() as (url, _), aiohttp.ClientSession() as session:
            async with session.post(f"{url}/v1/completions", json=body) as response:
                answer = json.loads(await response.text())
            assert 200 == response.status, answer
        scores = lm_eval_scores(answer, [len(context) for context, _ in pairs])
        for (context, said), (total, is_greedy) in zip(pairs, scores, strict=True):
            every = scored(context + said, 1)[len(context) - 1 :]
            expected = sum(token.logprob or 0.0 for token in every)
            assert pytest.approx(expected, abs=1e-4) == total
            likeliest = [token.top[0][0] for token in every]
            assert (said == likeliest) == is_greedy
        assert [True] == [is_greedy for _, is_greedy in scores[1:]]
        for choice, prompt in zip(answer["choices"], prompts, strict=True):
            assert len(prompt) + 1 == len(choice["logprobs"]["token_logprobs"])

    asyncio.run(scenario())


def test_where_the_answer_ends_at_once_its_end_is_counted_as_well() -> None:
    """Or the harness would leave out a token of the prompt."""

    async def scenario() -> None:
        async with api() as (_, client):
            ended = await client.completions.create(
                model="any",
                prompt="hello",
                echo=True,
                logprobs=1,
                max_tokens=1,
                temperature=0,
                extra_body={"stop_token_ids": [int(TARGET.logits(ids).argmax())]},
            )
            (choice,) = ended.choices
            assert choice.logprobs is not None
            assert ("stop", "hello") == (choice.finish_reason, choice.text)
            assert len(ids) + 1 == len(choice.logprobs.token_logprobs or [])

    ids = TOKENIZER.encode_text("hello")
    asyncio.run(scenario())


@pytest.mark.parametrize("max_tokens", [0, 6])
def test_openais_client_reads_a_prompt_and_its_answer_as_one_text(max_tokens: int) -> None:
    async def scenario() -> None:
        async with api() as (_, client):
            ids = TOKENIZER.encode_text("hello you")
            wanted: dict[str, Any] = {
                "model": "any",
                "prompt": ids,
                "echo": True,
                "logprobs": 2,
                "max_tokens": max_tokens,
                "temperature": 0,
            }
            answer = await client.completions.create(**wanted)
            (choice,) = answer.choices
            assert choice.logprobs is not None
            tokens, offsets = choice.logprobs.tokens or [], choice.logprobs.text_offset or []
            assert len(ids) + max_tokens == len(tokens) == len(offsets)
            assert choice.text == "".join(tokens)
            for token, offset in zip(tokens, offsets, strict=True):
                assert choice.text[offset:].startswith(token)
            assert choice.logprobs.top_logprobs is not None
            assert (None, None) == (
                choice.logprobs.top_logprobs[0],
                (choice.logprobs.token_logprobs or [0])[0],
            )
            text, told_tokens, told_offsets = "", [], []
            async for chunk in await client.completions.create(stream=True, **wanted):
                text += chunk.choices[0].text
                if chunk.choices[0].logprobs is not None:
                    told_tokens += chunk.choices[0].logprobs.tokens or []
                    told_offsets += chunk.choices[0].logprobs.text_offset or []
            assert (choice.text, tokens, offsets) == (text, told_tokens, told_offsets)

    asyncio.run(scenario())


def test_token_ids_are_echoed_as_the_text_that_they_are() -> None:
    async def scenario() -> None:
        async with api() as (_, client):
            ids = [TOKENIZER.encode_text("so: "), TOKENIZER.encode_text("or: ")]
            wanted: dict[str, Any] = {"model": "any", "prompt": ids, "echo": True, "max_tokens": 4}
            echoed = await client.completions.create(**wanted, temperature=0)
            plain = await client.completions.create(**(wanted | {"echo": False}), temperature=0)
            texts = [choice.text for choice in plain.choices]
            spelled = [b"".join(TOKEN_BYTES[i] for i in prompt).decode() for prompt in ids]
            expected = [prompt + text for prompt, text in zip(spelled, texts, strict=True)]
            assert expected == [choice.text for choice in echoed.choices]
            assert [None, None] == [choice.logprobs for choice in echoed.choices]

    asyncio.run(scenario())


@pytest.mark.parametrize("is_chat", [False, True])
def test_vllms_field_is_answered_by_token_ids(is_chat: bool) -> None:
    async def scenario() -> None:
        async with api() as (_, client):
            more: dict[str, Any] = {"extra_body": {"prompt_logprobs": 2}, "max_tokens": 3}
            if is_chat:
                turn: Any = [{"role": "user", "content": "hi"}]
                chat = await client.chat.completions.create(model="any", messages=turn, **more)
                prompt_logprobs = chat.model_dump()["prompt_logprobs"]
                twice = await client.chat.completions.create(
                    model="any", messages=turn, n=2, **more
                )
                assert prompt_logprobs == twice.model_dump()["prompt_logprobs"]
                num_prompt = chat.usage.prompt_tokens if chat.usage else 0
            else:
                answer = await client.completions.create(model="any", prompt="hello", **more)
                assert not answer.choices[0].text.startswith("hello")
                prompt_logprobs = answer.model_dump()["choices"][0]["prompt_logprobs"]
                ids = TOKENIZER.encode_text("hello")
                num_prompt = len(ids)
                for own_id, token, of_token in zip(
                    ids[1:], scored(ids, 2), prompt_logprobs[1:], strict=True
                ):
                    assert {str(own_id), *(str(i) for i, _ in token.top)} == of_token.keys()
                    assert (
                        pytest.approx(token.logprob, abs=1e-6) == of_token[str(own_id)]["logprob"]
                    )
                    assert 1 == of_token[str(token.top[0][0])]["rank"]
            assert num_prompt == len(prompt_logprobs)
            assert prompt_logprobs[0] is None
            with pytest.raises(BadRequestError, match="ask without stream"):
                await client.completions.create(model="any", prompt="x", stream=True, **more)

    asyncio.run(scenario())


def test_none_of_it_is_made_on_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a prompt of 20,000 tokens it takes 0.2 s, in which other clients would wait."""
    at_work: dict[str, set[int]] = {}

    def note(owner: type, name: str) -> None:
        made = getattr(owner, name)

        def noting(*arguments: Any) -> Any:
            is_prompt = any(isinstance(one, PromptPiece) for one in arguments)
            if name != "piece" or owner is UntoldPrompt or is_prompt:
                at_work.setdefault(f"{owner.__name__}.{name}", set()).add(threading.get_ident())
            return made(*arguments)

        monkeypatch.setattr(owner, name, noting)

    for owner, name in (
        (UntoldPrompt, "piece"),
        (OpenAIAnswer, "whole"),
        (OpenAIAnswer, "piece"),
    ):
        note(owner, name)

    async def scenario() -> None:
        async with api() as (_, client):
            wanted: dict[str, Any] = {"model": "any", "prompt": TEXT, "echo": True, "logprobs": 1}
            for num_choices in (1, 2):
                await client.completions.create(**wanted, n=num_choices, max_tokens=2)
                async for _ in await client.completions.create(
                    **wanted, n=num_choices, max_tokens=2, stream=True
                ):
                    pass

    asyncio.run(scenario())
    assert {"UntoldPrompt.piece", "OpenAIAnswer.whole", "OpenAIAnswer.piece"} == at_work.keys()
    assert not any(threading.get_ident() in threads for threads in at_work.values())
