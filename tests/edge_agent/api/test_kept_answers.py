"""Answers without sockets: whoever stops reading and comes back has the whole text, once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.api.kept_answers import Answer, KeptAnswers
from edge_agent.generation.chat_messages import ChatError, ChatFinished, Text
from edge_agent.generation.generation import GenerationRequest, TextPiece, Timings
from edge_agent.generation.scripted_generator import ScriptedGenerator
from tests.support.ends.waiting import eventually

REQUEST = GenerationRequest(text="hi")


async def read_on(answer: Answer, known: str, most: int) -> tuple[str, ChatFinished | None]:
    """The known text with up to `most` further messages of it, and the end if it was among them."""
    async with aclosing(answer.read(object(), len(known))) as messages:
        for _ in range(most):
            message = await anext(messages)
            if isinstance(message, ChatFinished):
                return known, message
            assert isinstance(message, Text)
            known += message.text
    return known, None


@given(
    pieces=st.lists(st.text(min_size=1, max_size=4), max_size=8),
    most=st.lists(st.integers(0, 4), max_size=12),
    lost=st.lists(st.integers(0, 3), max_size=12),
)
def test_however_often_a_reader_is_cut_off_it_gets_the_whole_text(
    pieces: Sequence[str], most: Sequence[int], lost: Sequence[int]
) -> None:
    """What was on its way when the socket broke is lost, and asked for again."""

    async def scenario() -> str:
        script = [TextPiece(text, "target") for text in pieces]
        answers = KeptAnswers(ScriptedGenerator(script))
        answer = answers.begin(REQUEST)
        known = ""
        for num_messages, num_lost in zip(most, lost, strict=False):
            known, _ = await read_on(answer, known, num_messages)
            known = known[: max(len(known) - num_lost, 0)]
            answers.leave(answer)
            assert answer is answers.resume(answer.id)
        known, end = await read_on(answer, known, len(pieces) + 2)
        assert end is not None
        await answers.stop_all()
        return known

    assert "".join(pieces) == asyncio.run(scenario())


def test_of_the_figures_a_late_reader_gets_the_newest() -> None:
    async def scenario() -> None:
        told = [Timings(5, 0, n, 0, 0, 0, n, 0, 0.2, 0.5, 48, 0, 0) for n in range(3)]
        script = [TextPiece("ab", "target", "alone", timings) for timings in told]
        generator = ScriptedGenerator([*script, TextPiece("c", "accepted")])
        answers = KeptAnswers(generator)
        answer = answers.begin(REQUEST)
        await eventually(lambda: bool(generator.requests) and generator.num_running == 0)
        texts = [text async for text in answer.read(object(), 1) if isinstance(text, Text)]
        assert ["b", "ab", "ab", "c"] == [text.text for text in texts]
        assert [None, None, told[2], None] == [text.so_far for text in texts]
        await answers.stop_all()

    asyncio.run(scenario())


def test_an_answer_runs_without_a_reader() -> None:
    async def scenario() -> None:
        generator = ScriptedGenerator([TextPiece("a", "target"), TextPiece("b", "accepted")])
        answers = KeptAnswers(generator)
        answer = answers.begin(REQUEST)
        answers.leave(answer)
        await eventually(lambda: bool(generator.requests) and generator.num_running == 0)
        known, end = await read_on(answer, "", 3)
        assert ("ab", True) == (known, end is not None)
        await answers.stop_all()

    asyncio.run(scenario())


def test_a_reader_that_was_replaced_is_told_so() -> None:
    async def scenario() -> None:
        gate = asyncio.Event()
        answers = KeptAnswers(ScriptedGenerator([gate, TextPiece("a", "target")]))
        answer = answers.begin(REQUEST)
        first, second = object(), object()
        older = answer.read(first)
        waiting = asyncio.create_task(anext(older))
        await asyncio.sleep(0)
        newer = answer.read(second)
        told = await waiting
        assert isinstance(told, ChatError)
        assert [False, True] == [answer.is_read_by(reader) for reader in (first, second)]
        with pytest.raises(StopAsyncIteration):
            await anext(older)
        gate.set()
        assert Text("a", "target") == await anext(newer)
        await newer.aclose()
        await answers.stop_all()

    asyncio.run(scenario())


def test_what_is_stopped_is_forgotten_at_once() -> None:
    async def scenario() -> None:
        generator = ScriptedGenerator([asyncio.Event()])
        answers = KeptAnswers(generator)
        answer = answers.begin(REQUEST)
        await generator.was_asked.wait()
        await answers.stop(answer)
        assert 0 == generator.num_running
        answers.leave(answer)  # its reader finds out late
        assert answer.expiry is None
        assert answer is not answers.resume(answer.id)
        assert [answer.id] == generator.resumed
        await answers.stop_all()

    asyncio.run(scenario())


def test_a_kept_answer_has_no_expiry_while_it_is_read() -> None:
    async def scenario() -> None:
        answers = KeptAnswers(ScriptedGenerator([asyncio.Event()]))
        answer = answers.begin(REQUEST)
        answers.leave(answer)
        assert answer.expiry is not None
        answers.resume(answer.id)
        assert answer.expiry is None
        await answers.stop_all()

    asyncio.run(scenario())
