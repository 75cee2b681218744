"""Requests that cannot be done are refused one by one, and say which field is to blame."""

from __future__ import annotations

import asyncio

import pytest

from shared.protocol.messages import (
    Cancel,
    ChatMessage,
    Error,
    ErrorCode,
    Open,
    Opened,
    Verdict,
)
from shared.protocol.token_ids import pack_token_ids
from tests.support.ends.loopback import (
    Verifier,
)
from tests.support.ends.raw_board import raw_board
from tests.support.ends.scripted import VOCAB_SIZE
from tests.support.messages.misbehaviour import beside_a_healthy_agent, still_works
from verifier.engine.device_terms import AllTerms, DeviceTerms
from verifier.engine.terms_in_force import TermsInForce
from verifier.target.scripted_tokenizer import ScriptedTokenizer

REFUSED: dict[str, tuple[Open, Error]] = {
    "empty prompt": (
        Open(0, 0, text=""),
        Error(ErrorCode.REQUEST, "the prompt is empty", 0, "prompt"),
    ),
    "chat without a word": (
        Open(0, 0, messages=(ChatMessage("user", ""),)),
        Error(ErrorCode.REQUEST, "the prompt is empty", 0, "messages"),
    ),
    "prompt that is too long": (
        Open(0, 0, text="x" * 256),
        Error(
            ErrorCode.REQUEST,
            "prompt of 256 tokens exceeds 255 (target.context_tokens - 1)",
            0,
            "prompt",
            prompt_tokens=256,
            most_prompt_tokens=255,
        ),
    ),
    "prompt with an id outside the vocabulary": (
        Open(0, 0, prompt=pack_token_ids([1, VOCAB_SIZE])),
        Error(
            ErrorCode.PROTOCOL,
            f"token id {VOCAB_SIZE} is outside the vocabulary of {VOCAB_SIZE}",
            0,
        ),
    ),
    "committed tokens beyond the end": (
        Open(0, 0, prompt=pack_token_ids([1]), committed=pack_token_ids([2] * 9), max_tokens=5),
        Error(
            ErrorCode.REQUEST,
            "9 committed tokens go beyond the end of the stream at 5",
            0,
            "committed",
        ),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_request_that_cannot_be_done_is_refused_alone(name: str) -> None:
    message, expected = REFUSED[name]

    async def misbehave(verifier: Verifier) -> None:
        async with raw_board(verifier, "bad") as bad:
            await bad.send(message)
            assert expected == await bad.error(0)
            await still_works(bad, channel=1)

    asyncio.run(beside_a_healthy_agent(misbehave, context_tokens=256))


def test_a_device_gets_no_more_streams_than_its_share() -> None:
    async def misbehave(verifier: Verifier) -> None:
        async with raw_board(verifier, "bad") as bad:
            for channel in range(3):
                await bad.open(channel, max_tokens=4000)
            await bad.send(Open(3, 3, text="one more"))
            sentence = "the device has 3 streams already"
            assert Error(ErrorCode.LIMIT, sentence, 3) == await bad.error(3)
            await bad.send(Cancel(1))
            while (finish := (await bad.next_of(Verdict)).finish) is None:
                pass
            assert "cancelled" == finish.reason
            await still_works(bad, channel=4)

    asyncio.run(beside_a_healthy_agent(misbehave, max_streams_per_device=3))


def test_a_paused_device_gets_no_new_stream_and_its_others_wait_with_all_they_have() -> None:
    async def misbehave(verifier: Verifier) -> None:
        terms = TermsInForce(verifier.service)
        async with raw_board(verifier, "bad") as bad:
            await bad.open(0, max_tokens=4000)
            await bad.next_of(Verdict)
            terms.take_over(AllTerms({"bad": DeviceTerms(is_paused=True)}))
            await bad.send(Open(1, 1, text="one more"))
            sentence = (
                "the verifier's operator has paused this board: `goodspeed-verifier devices "
                "resume bad` there lets it go on"
            )
            assert Error(ErrorCode.PAUSED, sentence, 1) == await bad.error(1)
            await bad.send(Open(2, 2, prompt=pack_token_ids([1]), committed=pack_token_ids([2])))
            assert 2 == (await bad.next_of(Opened)).channel
            terms.take_over(AllTerms())
            assert {0, 2} >= {(await bad.next_of(Verdict)).channel for _ in range(3)}
            await still_works(bad, channel=3)

    asyncio.run(beside_a_healthy_agent(misbehave))


def test_a_prompt_that_cannot_be_tokenized_for_an_unknown_reason_ends_its_stream_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class BrokenTokenizer(ScriptedTokenizer):
        def encode_text(self, text: str) -> list[int]:
            if text == "break":
                raise ZeroDivisionError
            return super().encode_text(text)

    async def misbehave(verifier: Verifier) -> None:
        verifier.service.tokenizer = BrokenTokenizer(VOCAB_SIZE)
        async with raw_board(verifier, "bad") as bad:
            await bad.send(Open(0, 0, text="break"))
            sentence = "the stream could not be opened"
            assert Error(ErrorCode.MODEL, sentence, 0) == await bad.error(0)
            await still_works(bad, channel=1)

    asyncio.run(beside_a_healthy_agent(misbehave))
    assert "ZeroDivisionError" in caplog.text
