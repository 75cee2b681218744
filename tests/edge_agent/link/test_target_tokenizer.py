from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from edge_agent.link.target_tokenizer import TargetTokenizer
from shared.daemon.http_server import listen
from shared.errors import (
    AuthRejected,
    GoodspeedError,
    HandshakeRejected,
    RemoteProtocolError,
    RequestRefused,
    TooManyStreams,
    VerifierAway,
)
from shared.protocol.token_question import MAX_QUESTION_BYTES, TOKENS_PATH, TokenQuestion
from tests.support.ends.loopback import running_verifier
from tests.support.ends.scripted import VOCAB_SIZE, scripted_service
from verifier.target.scripted_tokenizer import ScriptedTokenizer


def tokenizer(url: str, token: str = "any") -> TargetTokenizer:
    return TargetTokenizer(url, token, lambda: (b"a", b"b"))


def test_the_verifier_says_how_the_target_reads_a_text() -> None:
    async def scenario() -> None:
        async with running_verifier(scripted_service()) as verifier:
            asked = tokenizer(verifier.url, verifier.tokens["board"])
            expected = ScriptedTokenizer(VOCAB_SIZE).encode_text("né" * 1000)
            told = await asked.token_ids(TokenQuestion("né" * 1000))
            assert expected == told.tolist()
            with pytest.raises(AuthRejected):
                await tokenizer(verifier.url).token_ids(TokenQuestion("x"))

    asyncio.run(scenario())


def test_a_verifier_that_is_away_is_said_to_be() -> None:
    (socket,) = listen("127.0.0.1", 0)
    port = socket.getsockname()[1]
    socket.close()
    with pytest.raises(VerifierAway, match="cannot reach the verifier"):
        asyncio.run(tokenizer(f"ws://127.0.0.1:{port}").token_ids(TokenQuestion("x")))


def test_a_prompt_that_is_too_long_does_not_travel() -> None:
    question = TokenQuestion("x" * MAX_QUESTION_BYTES)
    with pytest.raises(RequestRefused, match="exceeds"):
        asyncio.run(tokenizer("ws://127.0.0.1:1").token_ids(question))


@pytest.mark.parametrize(
    ("status", "said", "error"),
    [
        (404, "", HandshakeRejected),
        (422, "no chat template", RequestRefused),
        (503, "device board sent more than 10 messages a second", TooManyStreams),
        (503, "loading", VerifierAway),
        (500, "", VerifierAway),
        (200, "x", RemoteProtocolError),
    ],
)
def test_what_it_says_instead_is_an_error_in_words(
    status: int, said: str, error: type[GoodspeedError]
) -> None:
    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=status, text=said)

    async def scenario() -> None:
        app = web.Application()
        app.router.add_post(TOKENS_PATH, answer)
        runner = web.AppRunner(app)
        await runner.setup()
        (socket,) = listen("127.0.0.1", 0)
        await web.SockSite(runner, socket).start()
        try:
            url = f"ws://127.0.0.1:{socket.getsockname()[1]}"
            with pytest.raises(error, match=said if status in (422, 503) else None):
                await tokenizer(url).token_ids(TokenQuestion("x"))
        finally:
            await runner.cleanup()

    asyncio.run(scenario())
