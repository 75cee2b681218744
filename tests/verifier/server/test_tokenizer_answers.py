"""Boards ask the verifier for the ids of a prompt, over HTTP and within limits."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence

import aiohttp
import pytest

from shared.protocol.messages import ChatMessage
from shared.protocol.token_ids import unpack_token_list
from shared.protocol.token_question import (
    MAX_QUESTION_BYTES,
    TOKENS_PATH,
    TokenQuestion,
    pack_question,
)
from tests.support.ends.limits import make_device_limits
from tests.support.ends.loopback import Verifier, running_verifier
from tests.support.ends.scripted import VOCAB_SIZE, scripted_service
from verifier.target.scripted_tokenizer import ScriptedTokenizer

Answer = tuple[int, bytes]


async def ask(verifier: Verifier, body: bytes, device: str = "board", **headers: str) -> Answer:
    bearer = {"Authorization": f"Bearer {verifier.tokens.get(device, device)}"}
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{verifier.port}") as session,
        session.post(TOKENS_PATH, data=io.BytesIO(body), headers=bearer | headers) as answer,
    ):
        return answer.status, await answer.read()


def answers_to(bodies: Sequence[bytes], device: str = "board", **limits: int) -> list[Answer]:
    async def play() -> list[Answer]:
        device_limits = make_device_limits(**limits) if limits else None
        async with running_verifier(scripted_service(), device_limits=device_limits) as verifier:
            return [await ask(verifier, body, device) for body in bodies]

    return asyncio.run(play())


@pytest.mark.parametrize(
    "question",
    [TokenQuestion("hi there"), TokenQuestion(messages=(ChatMessage("user", "hi there"),))],
)
def test_a_board_is_told_the_ids_of_a_prompt(question: TokenQuestion) -> None:
    ((status, packed),) = answers_to([pack_question(question)])
    expected = ScriptedTokenizer(VOCAB_SIZE).encode_text("hi there")
    assert (200, expected) == (status, unpack_token_list(packed, VOCAB_SIZE))


def test_nobody_else_is() -> None:
    ((status, said),) = answers_to([pack_question(TokenQuestion("hi"))], device="gsd_wrong")
    assert (401, b"tokens need a device's token\n") == (status, said)


@pytest.mark.parametrize(
    ("body", "expected"),
    [(b"nonsense", 400), (bytes(MAX_QUESTION_BYTES + 1), 413)],
)
def test_what_is_no_question_is_refused(body: bytes, expected: int) -> None:
    assert expected == answers_to([body])[0][0]


def test_questions_count_as_messages_of_the_device() -> None:
    bodies = [pack_question(TokenQuestion("hi"))] * 12
    statuses = [status for status, _ in answers_to(bodies, messages_per_second=10)]
    assert [200] * statuses.index(503) == statuses[: statuses.index(503)]
    assert {503} == set(statuses[statuses.index(503) :])
