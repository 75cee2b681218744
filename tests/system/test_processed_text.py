"""Text with penalties, biases, min_p and stop tokens is the target's own, whatever boards draft.

In `coupled` it is the same to the letter; in `rejection` each token follows the distribution that
the target has behind all tokens before it, so its place in that distribution is uniform.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import msgspec
import numpy as np
import openai
import pytest
from numpy.typing import NDArray
from openai import AsyncOpenAI

from edge_agent.generation.generation import Finished, GenerationRequest
from shared.errors import RequestRefused
from shared.speculation.logit_processors import NO_PROCESSORS, LogitProcessors
from shared.speculation.probabilities import dense_probabilities
from shared.speculation.processed_logits import processed
from shared.speculation.sampling import GREEDY, SamplingParameters
from shared.speculation.scripted_model import SCRIPTED_END_ID, ScriptedModel
from tests.support.ends.api_server import serving
from tests.support.ends.loopback import (
    chat,
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
    scripted_service,
    target_text,
)
from tests.support.ends.waiting import eventually
from tests.support.network.chaos_lane import Weather
from tests.support.network.chaos_proxy import ChaosProxy, local
from tests.support.statistics.next_token_statistics import p_value
from verifier.policies import FixedPolicy
from verifier.target.scripted_tokenizer import ScriptedTokenizer

PENALTIES = LogitProcessors(frequency_penalty=0.8, presence_penalty=0.6, repetition_penalty=1.3)
ALL_AT_ONCE = LogitProcessors(
    frequency_penalty=-0.3,
    presence_penalty=1.1,
    repetition_penalty=1.2,
    logit_bias=((5, 6.0), (9, -100.0)),
    min_p=0.02,
    min_tokens=20,
    ignore_eos=True,
    stop_token_ids=(5, 12),
)
ENDING = ScriptedModel(VOCAB_SIZE, MODEL_SEED)  # one that may end its text
NUM_TEXTS, TOKENS_PER_TEXT = 50, 120
NUM_BINS = 40
SMALLEST_P = 1e-5


def request(i: int, processors: LogitProcessors, sampling: SamplingParameters) -> GenerationRequest:
    return GenerationRequest(
        messages=chat(f"hello {i}"),
        sampling=sampling,
        seed=50 + i,
        max_tokens=60,
        acceptance_mode="coupled",
        processors=processors,
    )


@pytest.mark.parametrize("sampling", [GREEDY, SamplingParameters(0.9, top_p=0.95)])
@pytest.mark.parametrize(
    "processors",
    [
        PENALTIES,
        ALL_AT_ONCE,
        LogitProcessors(min_p=0.1),
        LogitProcessors(logit_bias=((3, 100.0),), frequency_penalty=2.0),
        LogitProcessors(stop_token_ids=(7, 8, 9, 10)),
        LogitProcessors(min_tokens=30),
    ],
)
def test_coupled_text_is_what_the_target_alone_writes(
    processors: LogitProcessors, sampling: SamplingParameters
) -> None:
    requests = [request(i, processors, sampling) for i in range(3)]
    requests.append(request(3, NO_PROCESSORS, sampling))  # beside them, and untouched

    async def texts() -> list[str]:
        service = scripted_service(
            ENDING,
            settings=round_settings(max_draft_length=5, max_window=13),
            policy=FixedPolicy(5),
            delay_seconds=lambda _: 0.002,
        )
        async with (
            running_verifier(service) as verifier,
            running_agent(verifier, board(0.1)) as agent,
        ):
            finished = await asyncio.gather(*(generate(agent, one) for one in requests))
        return [text for text, _ in finished]

    assert [target_text(one, ENDING) for one in requests] == asyncio.run(texts())


def test_it_is_the_same_across_a_cut_link_for_the_counts_go_with_the_stream() -> None:
    asked = msgspec.structs.replace(
        request(0, PENALTIES, SamplingParameters(1.0)), max_tokens=150, stop=("never said",)
    )

    async def text() -> str:
        service = scripted_service(delay_seconds=lambda _: 0.002)
        async with (
            running_verifier(service) as verifier,
            ChaosProxy(local(verifier.port), Weather(jitter_seconds=0.002)) as proxy,
            running_agent(verifier, board(0.1), url=proxy.url) as agent,
        ):
            running = asyncio.create_task(generate(agent, asked))
            for num_committed in (20, 90):
                await eventually(
                    lambda at=num_committed: any(  # type: ignore[misc]
                        stream.position >= at for stream in service.planner.streams.values()
                    )
                )
                proxy.reset()
            return (await running)[0]

    assert target_text(asked) == asyncio.run(text())


def test_a_stop_token_ends_an_answer_with_stop_and_ignore_eos_lets_it_run_on() -> None:
    stopped = GenerationRequest(
        text="x", sampling=GREEDY, max_tokens=9, processors=LogitProcessors(min_tokens=9)
    )

    async def finished(asked: GenerationRequest) -> tuple[str, Finished]:
        async with (
            running_verifier(scripted_service(ENDING)) as verifier,
            running_agent(verifier, board(0.0)) as agent,
        ):
            return await generate(agent, asked)

    _, whole = asyncio.run(finished(stopped))
    third = whole.token_ids[2]
    at_third = LogitProcessors(stop_token_ids=(third,))
    text, end = asyncio.run(finished(msgspec.structs.replace(stopped, processors=at_third)))
    num_kept = whole.token_ids.index(third)
    assert ("stop", whole.token_ids[: num_kept + 1]) == (end.reason, end.token_ids)
    assert num_kept == len(text.split())
    for_ever = msgspec.structs.replace(
        stopped, max_tokens=300, processors=LogitProcessors(ignore_eos=True)
    )
    _, end = asyncio.run(finished(for_ever))
    assert ("length", False) == (end.reason, SCRIPTED_END_ID in end.token_ids)


@pytest.mark.parametrize(
    ("processors", "field"),
    [
        (LogitProcessors(logit_bias=((VOCAB_SIZE, 1.0),)), "logit_bias"),
        (LogitProcessors(logit_bias=((3, 1.0), (3, 2.0))), "logit_bias"),
        (LogitProcessors(stop_token_ids=(1, 1 << 23)), "stop_token_ids"),
    ],
)
def test_tokens_that_the_target_does_not_have_are_refused_by_name(
    processors: LogitProcessors, field: str
) -> None:
    async def refused() -> RequestRefused:
        async with (
            running_verifier(scripted_service()) as verifier,
            running_agent(verifier, board()) as agent,
        ):
            with pytest.raises(RequestRefused) as error:
                await generate(agent, request(0, processors, GREEDY))
        return error.value

    error = asyncio.run(refused())
    assert (field, True) == (error.field, str(error).startswith(field))


# --- clients --------------------------------------------------------------------------------------

HOSTILE: list[tuple[dict[str, Any], str]] = [
    ({"frequency_penalty": 1e308}, "frequency_penalty"),
    ({"presence_penalty": -2.5}, "presence_penalty"),
    ({"extra_body": {"repetition_penalty": 0}}, "repetition_penalty"),
    ({"extra_body": {"repeat_penalty": -1}}, "repeat_penalty"),
    ({"logit_bias": {str(i): 1 for i in range(10_000)}}, "logit_bias"),
    ({"logit_bias": {str(VOCAB_SIZE): 1}}, "logit_bias"),  # only the verifier knows
    ({"extra_body": {"stop_token_ids": [VOCAB_SIZE]}}, "stop_token_ids"),
    ({"extra_body": {"min_p": 2}}, "min_p"),
]


def test_hostile_values_are_refused_by_name_while_others_get_their_text() -> None:
    fair = request(0, PENALTIES, SamplingParameters(0.9))
    messages: Any = [{"role": "user", "content": "hi"}]

    async def scenario() -> str:
        async with (
            running_verifier(scripted_service(delay_seconds=lambda _: 0.002)) as verifier,
            running_agent(verifier, board(0.1)) as agent,
            serving(agent) as url,
            AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client,
        ):
            answer = asyncio.create_task(generate(agent, fair))
            for fields, param in HOSTILE:
                with pytest.raises(openai.BadRequestError) as refused:
                    await client.chat.completions.create(model="any", messages=messages, **fields)
                assert param == refused.value.param
                assert param in refused.value.message
            for number in (b"NaN", b"Infinity"):
                body = b'{"messages": [{"role": "user", "content": "x"}], "min_p": %s}' % number
                async with (
                    aiohttp.ClientSession() as session,
                    session.post(f"{url}/v1/chat/completions", data=body) as response,
                ):
                    assert 400 == response.status
            return (await answer)[0]

    assert target_text(fair) == asyncio.run(scenario())


# --- rejection ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rejected_outputs() -> list[tuple[list[int], tuple[int, ...]]]:
    """Prompts and outputs of a board that drafts without a thought of penalties."""
    tokenizer = ScriptedTokenizer(VOCAB_SIZE)
    sampling = SamplingParameters(1.0)

    async def outputs() -> list[Finished]:
        service = scripted_service(
            settings=round_settings(max_draft_length=4, max_window=9),
            policy=FixedPolicy(4),
            delay_seconds=lambda _: 0.001,
        )
        async with (
            running_verifier(service) as verifier,
            running_agent(verifier, board(0.2, num_slots=NUM_TEXTS)) as agent,
        ):
            made = await asyncio.gather(
                *(
                    generate(
                        agent,
                        GenerationRequest(
                            text=f"text {i}",
                            sampling=sampling,
                            seed=i,
                            max_tokens=TOKENS_PER_TEXT,
                            acceptance_mode="rejection",
                            processors=PENALTIES,
                        ),
                    )
                    for i in range(NUM_TEXTS)
                )
            )
        return [finished for _, finished in made]

    made = asyncio.run(outputs())
    assert sum(one.timings.accepted_tokens for one in made) > NUM_TEXTS * TOKENS_PER_TEXT / 20
    return [(list(tokenizer.encode_text(f"text {i}")), one.token_ids) for i, one in enumerate(made)]


def places(
    outputs: list[tuple[list[int], tuple[int, ...]]], processors: LogitProcessors
) -> NDArray[np.int64]:
    """In which of `NUM_BINS` parts of its distribution each token lies, split at random.

    What was written before comes first, so that a wrong penalty moves the places.
    """
    random, bins = np.random.default_rng(5), []
    for prompt, output in outputs:
        for i, token_id in enumerate(output):
            before = set(output[:i])
            logits = processed(
                TARGET.logits([*prompt, *output[:i]]),
                processors,
                SamplingParameters(1.0),
                prompt_ids=prompt,
                output_ids=output[:i],
                end_ids={SCRIPTED_END_ID},
            )
            probs = dense_probabilities(logits, SamplingParameters(1.0))
            others = [other for other in range(VOCAB_SIZE) if other not in before]
            order = [*before, *others]
            first = order[: order.index(token_id)]
            place = probs[first].sum() + random.random() * probs[token_id]
            bins.append(min(int(place * NUM_BINS), NUM_BINS - 1))
    return np.bincount(bins, minlength=NUM_BINS)


def test_rejection_text_follows_the_penalised_target(
    rejected_outputs: list[tuple[list[int], tuple[int, ...]]],
) -> None:
    uniform = np.full(NUM_BINS, 1 / NUM_BINS)
    assert p_value([(places(rejected_outputs, PENALTIES), uniform)]) > SMALLEST_P
    # The statistic notices where one penalty is missing.
    nearly = msgspec.structs.replace(PENALTIES, frequency_penalty=0.0)
    assert p_value([(places(rejected_outputs, nearly), uniform)]) < 1e-2 * SMALLEST_P
