"""Text held to a grammar, through both ends: the target's own under the same masks."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from llguidance import LLParserLimits

from edge_agent.generation.agent import Agent
from edge_agent.generation.generation import Finished, GenerationRequest, TextPiece
from shared.errors import RequestRefused
from shared.protocol.grammar import Grammar
from shared.speculation.logit_processors import LogitProcessors
from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.support.ends.loopback import generate, loopback
from tests.support.models.text_vocabulary import (
    END_IDS,
    TOKEN_BYTES,
    HeldTarget,
    TextTokenizer,
    text_board,
    text_service,
)
from tests.support.statistics.next_token_statistics import p_value
from verifier.grammar import stream_grammar, token_table
from verifier.grammar.grammars import Grammars
from verifier.grammar.matcher_state import MatcherState
from verifier.grammar.stream_grammar import StreamGrammarInThreads
from verifier.policies.draft_policy import DraftPolicy
from verifier.policies.fixed import FixedPolicy
from verifier.policies.rate import RatePolicy
from verifier.target.token_masks import PackedMasks

PROMPT = "hello"
SEED = 5
MAX_TOKENS = 60
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 999},
        "x": {"enum": ["ab", "abc", None, True]},
    },
    "required": ["name", "age", "x"],
    "additionalProperties": False,
}
RECURSIVE = {
    "$defs": {"node": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2}},
    "$ref": "#/$defs/node",
}
# Behind two free characters it requires itself: what is forced has no end.
ENDLESS = Grammar("lark", 'start: /[a-e]{2}/ more\nmore: "ab1" more')
GRAMMARS = [
    Grammar("json_schema", json.dumps(SCHEMA)),
    Grammar("json_schema", json.dumps(RECURSIVE)),
    Grammar("json_object"),
    Grammar("regex", "(abc|ab|é){3,9}"),
    Grammar("gbnf", 'root ::= item ("," item)*\nitem ::= [a-c]+ | "12"\n'),
    ENDLESS,
    Grammar("lark", 'start: "name" | "null" | "abc"'),
]
SAMPLINGS = [GREEDY, SamplingParameters(1.0), SamplingParameters(0.8, top_p=0.9)]
SMALLEST_P = 1e-5


@pytest.fixture(scope="module")
def held() -> Iterator[HeldTarget]:
    target = HeldTarget()
    target.output(GRAMMARS[-1], PROMPT, GREEDY, SEED, 1)  # threads and process are there
    yield target
    target.close()


def asking(grammar: Grammar | None, sampling: SamplingParameters = GREEDY, **fields: Any) -> Any:
    asked = {"text": PROMPT, "seed": SEED, "max_tokens": MAX_TOKENS, **fields}
    return GenerationRequest(grammar=grammar, sampling=sampling, **asked)


async def with_pieces(agent: Agent, request: GenerationRequest) -> tuple[list[TextPiece], Finished]:
    pieces: list[TextPiece] = []
    async for event in agent.generate(request):
        if isinstance(event, Finished):
            return pieces, event
        pieces.append(event)
    raise AssertionError("the generation ended without Finished")


def test_the_text_is_that_of_the_target_alone_under_the_same_grammar(held: HeldTarget) -> None:
    """Greedy and coupled, with good drafts, with bad ones and without, all in the same rounds."""
    asked = [(grammar, sampling) for grammar in GRAMMARS for sampling in SAMPLINGS]
    expected = [
        held.output(grammar, PROMPT, sampling, SEED, MAX_TOKENS) for grammar, sampling in asked
    ]
    prompt_ids = TextTokenizer().encode_text(PROMPT)
    board = text_board([prompt_ids + output for output in expected])

    async def run(round_seconds: float) -> list[list[Finished]]:
        service = text_service(round_seconds)
        async with loopback(service, [board, text_board()]) as (_, agents):
            arms = [(agents[1], 3), (agents[1], 0)]
            others = [asyncio.create_task(all_of(agent, length)) for agent, length in arms]
            knowing = [await finished_of(agents[0], asking(*pair)) for pair in asked]
            return [knowing, *await asyncio.gather(*others)]

    async def all_of(agent: Agent, draft_length: int | None) -> list[Finished]:
        requests = [asking(*pair, draft_length=draft_length) for pair in asked]
        return await asyncio.gather(*(finished_of(agent, request) for request in requests))

    accepted = 0
    for round_seconds in (0.004, 0.02, 0.1):  # on a busy machine drafts come late
        arms = asyncio.run(run(round_seconds))
        for finished in arms:
            assert expected == [list(each.token_ids) for each in finished]
        accepted += sum(each.timings.accepted_tokens for each in arms[0])
        if accepted > 20:
            break
    assert accepted > 20, "drafts had no part in the text"


async def finished_of(agent: Agent, request: GenerationRequest) -> Finished:
    return (await generate(agent, request))[1]


@pytest.mark.parametrize("draft_length", [4, pytest.param(0, marks=pytest.mark.slow)])
def test_in_rejection_mode_each_text_comes_as_often_as_the_target_writes_it(
    held: HeldTarget, draft_length: int
) -> None:
    grammar, sampling = Grammar("regex", "(ab|a|bc|c){2,3}"), SamplingParameters(1.0)
    expected = held.distribution(grammar, PROMPT, sampling)
    prompt_ids = TextTokenizer().encode_text(PROMPT)
    likely = sorted(expected, key=lambda output: -expected[output])[:6]
    board = text_board([[*prompt_ids, *output] for output in likely])
    request = asking(
        grammar, sampling, seed=None, acceptance_mode="rejection", draft_length=draft_length
    )

    async def run() -> list[Finished]:
        async with loopback(text_service(), [board]) as (_, (agent,)):
            finished: list[Finished] = []
            for _ in range(50):
                finished += await asyncio.gather(*(finished_of(agent, request) for _ in range(24)))
            return finished

    finished = asyncio.run(run())
    counts = Counter(each.token_ids for each in finished)
    assert set(counts) <= set(expected)
    seen = np.array([counts[output] for output in expected])
    assert p_value([(seen, np.array(list(expected.values())))]) > SMALLEST_P
    accepted = sum(each.timings.accepted_tokens for each in finished)
    assert (accepted > 200) == (draft_length > 0)


def test_what_a_grammar_forces_takes_no_round_of_its_own_and_is_told(held: HeldTarget) -> None:
    grammar = GRAMMARS[0]

    async def run() -> tuple[list[TextPiece], Finished]:
        async with loopback(text_service(), [text_board()]) as (_, (agent,)):
            return await with_pieces(agent, asking(grammar, draft_length=0))

    pieces, finished = asyncio.run(run())
    assert held.output(grammar, PROMPT, GREEDY, SEED, MAX_TOKENS) == list(finished.token_ids)
    forced = [piece.text for piece in pieces if piece.reason == "forced"]
    assert "age" in "".join(forced)
    assert finished.timings.num_verdicts <= len(finished.token_ids) - len(forced)


@pytest.mark.parametrize("num_clients", [1, 8, 32])
@pytest.mark.parametrize("policy", [FixedPolicy(8), RatePolicy()])
def test_every_answer_satisfies_the_schema_however_many_clients_there_are(
    num_clients: int, policy: DraftPolicy
) -> None:
    """With drafts and without, and the text with a seed is the same."""
    sampling = SamplingParameters(1.3)

    async def run(draft_length: int | None) -> list[tuple[str, Finished]]:
        service = text_service(policy=policy)
        async with loopback(service, [text_board()]) as (_, (agent,)):
            requests = [
                asking(GRAMMARS[0], sampling, seed=seed, draft_length=draft_length)
                for seed in range(num_clients)
            ]
            return await asyncio.gather(*(generate(agent, request) for request in requests))

    drafted, alone = asyncio.run(run(None)), asyncio.run(run(0))
    assert [text for text, _ in alone] == [text for text, _ in drafted]
    for text, finished in drafted:
        assert "end" == finished.reason
        value = json.loads(text)
        assert ["name", "age", "x"] == list(value)
        assert len(value["name"]) <= 8
        assert 0 <= value["age"] <= 999
        assert value["x"] in ("ab", "abc", None, True)


def test_with_penalties_biases_and_log_probabilities_drafts_change_no_letter_either() -> None:
    processors = LogitProcessors(
        repetition_penalty=1.3,
        frequency_penalty=0.5,
        logit_bias=((30, 4.0), (70, -3.0)),
        min_p=0.01,
    )
    asked = [(grammar, sampling) for grammar in GRAMMARS[:4] for sampling in SAMPLINGS]

    async def run(draft_length: int | None) -> list[Finished]:
        async with loopback(text_service(), [text_board()]) as (_, (agent,)):
            requests = [
                asking(*pair, processors=processors, num_logprobs=2, draft_length=draft_length)
                for pair in asked
            ]
            return await asyncio.gather(*(finished_of(agent, request) for request in requests))

    drafted, alone = asyncio.run(run(4)), asyncio.run(run(0))
    assert [each.token_ids for each in alone] == [each.token_ids for each in drafted]
    for (grammar, _), finished in zip(asked, alone, strict=True):
        text = b"".join(TOKEN_BYTES[i] for i in finished.token_ids if i not in END_IDS)
        if finished.reason == "end" and grammar.kind.startswith("json"):
            json.loads(text)


@pytest.mark.parametrize(
    "processors", [LogitProcessors(min_tokens=9), LogitProcessors(ignore_eos=True)]
)
def test_what_forbids_an_end_is_refused_where_a_grammar_says_where_it_is(
    processors: LogitProcessors,
) -> None:
    async def run() -> None:
        async with loopback(text_service(), [text_board()]) as (_, (agent,)):
            with pytest.raises(RequestRefused, match="grammar says where the text ends"):
                await generate(agent, asking(GRAMMARS[0], processors=processors))

    asyncio.run(run())


def test_a_grammar_that_never_ends_ends_with_length() -> None:
    async def run() -> tuple[str, Finished]:
        async with loopback(text_service(), [text_board()]) as (_, (agent,)):
            return await generate(agent, asking(Grammar("regex", "(ab)+c{500}")))

    text, finished = asyncio.run(run())
    assert ("length", MAX_TOKENS) == (finished.reason, len(finished.token_ids))
    assert re.fullmatch("(ab)+c*|(ab)*a", text)


NODE = {
    "type": "object",
    "properties": {"a": {"$ref": "#/$defs/node"}},
    "required": ["a"],
    "additionalProperties": False,
}
REQUIRES_ITSELF = {
    "$defs": {"node": NODE},
    "type": "object",
    "properties": {"x": {"enum": [1, 2]}, "y": {"$ref": "#/$defs/node"}},
    "required": ["x", "y"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("draft_length", [None, 0])
@pytest.mark.parametrize(
    ("grammar", "form"),
    [
        (ENDLESS, "[a-e]{2}(ab1)*(a|ab)?"),
        (
            Grammar("json_schema", json.dumps(REQUIRES_ITSELF)),
            r'\{"x": [12], "y": (\{"a": )*.{0,5}',
        ),
    ],
)
def test_text_that_must_go_on_for_ever_behind_some_tokens_ends_with_length(
    grammar: Grammar, form: str, draft_length: int | None
) -> None:
    async def run() -> tuple[str, Finished]:
        async with loopback(text_service(), [text_board()]) as (_, (agent,)):
            return await generate(agent, asking(grammar, draft_length=draft_length))

    text, finished = asyncio.run(run())
    assert ("length", MAX_TOKENS) == (finished.reason, len(finished.token_ids))
    assert re.fullmatch(form, text), text


@pytest.mark.parametrize(
    ("grammar", "words"),
    [
        (Grammar("json_schema", '{"type": "nope"}', "format"), "Invalid type: nope"),
        (
            Grammar("json_schema", '{"type": "string", "minLength": 5, "maxLength": 3}', "format"),
            "Unsatisfiable schema",
        ),
        (Grammar("json_schema", '{"$ref": "#"}', "format"), "no text can satisfy it"),
        (Grammar("regex", "((", "format"), "unclosed group"),
    ],
)
def test_what_is_no_grammar_is_refused_in_the_clients_word_and_others_go_on(
    grammar: Grammar, words: str
) -> None:
    async def run() -> None:
        async with loopback(text_service(), [text_board()]) as (_, (agent,)):
            other = asyncio.create_task(generate(agent, asking(GRAMMARS[0])))
            with pytest.raises(RequestRefused, match=words) as refused:
                await generate(agent, asking(grammar))
            assert "format" == refused.value.field
            assert "end" == (await other)[1].reason

    asyncio.run(run())


class GatedGrammars:
    """Makes masks of one grammar wait until the test opens the gate."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate = threading.Event()
        self._gated: set[MatcherState] = set()
        make_masks = MatcherState.masks

        def gated(state: MatcherState, draft_token_ids: Sequence[int]) -> PackedMasks:
            if state in self._gated:
                assert self.gate.wait(30)
            return make_masks(state, draft_token_ids)

        begin = Grammars.begin

        def begin_gated(
            grammars: Grammars, grammar: Grammar, wake: Callable[[], None]
        ) -> StreamGrammarInThreads:
            begun = begin(grammars, grammar, wake)
            if grammar.field == "gated":
                begun.begin_behind(())
                self._gated.add(begun._state)
                monkeypatch.setattr(begun, "begin_behind", lambda token_ids: True)
            return begun

        monkeypatch.setattr(MatcherState, "masks", gated)
        monkeypatch.setattr(Grammars, "begin", begin_gated)


def test_while_the_masks_of_one_stream_are_late_others_go_on_and_its_text_stays_the_same(
    held: HeldTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = held.output(GRAMMARS[2], PROMPT, GREEDY, SEED, MAX_TOKENS)
    gated = GatedGrammars(monkeypatch)
    late = Grammar("json_object", field="gated")

    async def run() -> None:
        async with loopback(text_service(), [text_board()]) as (_, (agent,)):
            slow = asyncio.create_task(finished_of(agent, asking(late)))
            for grammar in (GRAMMARS[2], None):
                finished = await finished_of(agent, asking(grammar))
                assert (grammar is None) or expected == list(finished.token_ids)
            assert not slow.done()
            gated.gate.set()
            assert expected == list((await slow).token_ids)

    asyncio.run(run())


def test_a_grammar_that_never_comes_to_a_mask_ends_its_own_stream_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gated = GatedGrammars(monkeypatch)
    monkeypatch.setattr(stream_grammar, "MOST_JOB_SECONDS", 0.2)

    async def run() -> None:
        async with loopback(text_service(), [text_board()]) as (_, (agent,)):
            stuck = asyncio.create_task(
                finished_of(agent, asking(Grammar("json_object", field="gated")))
            )
            while not stuck.done():
                assert "end" == (await finished_of(agent, asking(None))).reason
            with pytest.raises(RequestRefused, match="the grammar needs more time or memory"):
                await stuck
            gated.gate.set()

    asyncio.run(run())


def test_an_ambiguous_grammar_ends_its_own_stream_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = partial(LLParserLimits, max_items_in_row=20)
    monkeypatch.setattr(token_table, "limits", limits)
    hostile = Grammar("lark", "start: s\ns: s s | /[a-z]/ | s s s")

    async def run() -> None:
        async with loopback(text_service(0.0), [text_board()]) as (_, (agent,)):
            others = [asyncio.create_task(finished_of(agent, asking(None))) for _ in range(4)]
            with pytest.raises(RequestRefused, match="simplify it"):
                await finished_of(agent, asking(hostile, max_tokens=2000))
            assert ["end"] * 4 == [(await other).reason for other in others]

    asyncio.run(run())
