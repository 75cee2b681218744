"""A stream with a grammar between its connections: taken up again, resumed, refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.errors import RequestRefused
from shared.protocol.grammar import Grammar
from shared.protocol.messages import Open, Resume
from shared.protocol.token_ids import pack_token_ids, unpack_token_ids
from shared.speculation.sampling import GREEDY
from tests.support.ends.waiting import eventually
from tests.support.models.text_vocabulary import VOCAB_SIZE, TextTokenizer, text_service
from tests.verifier.engine.test_service import Mailbox, running
from verifier.target.scripted_target import ScriptedTarget

GRAMMAR = Grammar("regex", "(abc|ab|é){3,9}", "guided_regex")
PROMPT = pack_token_ids(TextTokenizer().encode_text("hello"))


def asking(**fields: Any) -> Open:
    return Open(4, 9, prompt=PROMPT, sampling=GREEDY, max_tokens=60, grammar=GRAMMAR, **fields)


def ids_of(mailbox: Mailbox) -> list[int]:
    return [id_ for v in mailbox.verdicts for id_ in unpack_token_ids(v.tokens, VOCAB_SIZE)]


def output_of(message: Open) -> list[int]:
    service = text_service(0.0)

    async def run() -> Mailbox:
        async with running(service) as (device, mailbox):
            await service.open_stream(device, mailbox, message)
            await eventually(lambda: bool(mailbox.ended))
            return mailbox

    return ids_of(asyncio.run(run()))


def test_behind_committed_tokens_the_grammar_goes_on_as_if_it_had_never_stopped() -> None:
    whole = output_of(asking())
    for num_known in (1, len(whole) // 2, len(whole) - 1):
        rest = output_of(asking(committed=pack_token_ids(whole[:num_known])))
        assert whole[num_known:] == rest


def test_committed_tokens_that_are_not_of_the_grammar_are_refused() -> None:
    committed = pack_token_ids(TextTokenizer().encode_text("abx"))
    with pytest.raises(RequestRefused, match="not as guided_regex says") as refused:
        output_of(asking(committed=committed))
    assert "committed" == refused.value.field


def test_a_stream_that_is_resumed_keeps_its_grammar_and_tells_it() -> None:
    whole = output_of(asking())
    service = text_service(0.01)

    async def run() -> tuple[Mailbox, Mailbox]:
        async with running(service) as (device, mailbox):
            device.epoch = 1
            stream = await service.open_stream(device, mailbox, asking())
            await eventually(lambda: len(ids_of(mailbox)) > 1)
            assert stream is not None
            service.park(stream)
            device.epoch, again = 2, Mailbox()
            await service.open_stream(device, again, Resume(5, 9))
            await eventually(lambda: bool(again.ended))
            return mailbox, again

    before, again = asyncio.run(run())
    assert GRAMMAR == again.opened.grammar
    assert Grammar(GRAMMAR.kind, "", GRAMMAR.field) == before.opened.grammar
    assert whole == ids_of(again)


def test_a_target_without_an_end_holds_to_no_grammar() -> None:
    service = text_service(0.0)
    service.tokenizer.end_ids = frozenset()  # type: ignore[misc]
    assert isinstance(service.target, ScriptedTarget)

    async def run() -> None:
        async with running(service) as (device, mailbox):
            with pytest.raises(RequestRefused, match="no token that ends a text"):
                await service.open_stream(device, mailbox, asking())

    asyncio.run(run())
