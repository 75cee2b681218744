"""No question for tokens holds an event loop up, nor a grammar, tools or a state of devices."""

from __future__ import annotations

import io
import json

import aiohttp
import msgspec
import pytest

from edge_agent.generation.scripted_generator import ScriptedGenerator
from edge_agent.link.target_tokenizer import TargetTokenizer
from shared.protocol.handed_drafts.draft_offers import OFFERS_PATH
from shared.protocol.messages import MAX_CHAT_MESSAGES, ChatMessage
from shared.protocol.token_question import (
    MAX_QUESTION_BYTES,
    TOKENS_PATH,
    TokenQuestion,
    pack_question,
)
from tests.support.ends.api_server import HELLO, serving
from tests.support.ends.loop_watch import LIMIT_SECONDS, LoopWatch, least_of_a_few
from tests.support.ends.loopback import running_verifier
from tests.support.ends.scripted import scripted_service

TEXT = b"x" * (MAX_QUESTION_BYTES - 100)  # a token each
MANY = 262_000  # ids in a body, which may have 262,144 parts
TURN = {"role": "user", "content": "y" * 190}
QUESTIONS = {
    "a text": TokenQuestion("x" * (MAX_QUESTION_BYTES - 100)),
    "many messages": TokenQuestion(messages=(ChatMessage("user", "y" * 900),) * MAX_CHAT_MESSAGES),
}
BODIES = {
    "short tokens": ("/detokenize", b'{"tokens":[' + b"1," * MANY + b"1]}"),
    "long tokens": ("/detokenize", b'{"tokens":[' + b"63," * MANY + b"1]}"),
    "a prompt": ("/tokenize", b'{"prompt":"' + TEXT + b'"}'),
    "pieces": ("/tokenize", b'{"with_pieces":true,"content":"' + TEXT + b'"}'),
    "a chat": ("/tokenize", json.dumps({"messages": [TURN] * MAX_CHAT_MESSAGES}).encode()),
    "a message to count": (
        "/v1/messages/count_tokens",
        json.dumps({"messages": [TURN] * MAX_CHAT_MESSAGES}).encode(),
    ),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_no_question_for_tokens_holds_the_verifier_up(name: str) -> None:
    body = pack_question(QUESTIONS[name])

    async def scenario(watch: LoopWatch) -> None:
        async with running_verifier(scripted_service()) as verifier:
            headers = {"Authorization": f"Bearer {verifier.tokens['board']}"}
            async with aiohttp.ClientSession(f"http://127.0.0.1:{verifier.port}") as http:
                watch.restart()
                asked = {"data": io.BytesIO(body), "headers": headers}
                async with http.post(TOKENS_PATH, **asked) as response:
                    assert 200 == response.status
                    assert len(await response.read()) > MAX_CHAT_MESSAGES

    seconds, what = least_of_a_few(scenario)
    assert seconds < LIMIT_SECONDS, what


def test_a_question_that_is_none_holds_nothing_up() -> None:
    nested = b"\x91" * (MAX_QUESTION_BYTES - 1)
    wide = msgspec.msgpack.encode(["", [[] for _ in range(MAX_QUESTION_BYTES - 20)]])

    async def scenario(watch: LoopWatch) -> None:
        async with running_verifier(scripted_service()) as verifier:
            headers = {"Authorization": f"Bearer {verifier.tokens['board']}"}
            async with aiohttp.ClientSession(f"http://127.0.0.1:{verifier.port}") as http:
                for body in (nested, wide):
                    watch.restart()
                    asked = {"data": io.BytesIO(body), "headers": headers}
                    async with http.post(TOKENS_PATH, **asked) as response:
                        assert 400 == response.status
                async with http.get(OFFERS_PATH, headers=headers) as response:
                    assert 404 == response.status

    seconds, what = least_of_a_few(scenario)
    assert seconds < LIMIT_SECONDS, what


@pytest.mark.parametrize("name", BODIES)
def test_no_question_of_a_client_for_tokens_holds_the_agent_up(name: str) -> None:
    path, body = BODIES[name]

    async def scenario(watch: LoopWatch) -> None:
        async with running_verifier(scripted_service()) as verifier:
            known = verifier.service.tokenizer.token_bytes
            tokenizer = TargetTokenizer(verifier.url, verifier.tokens["board"], lambda: known)
            async with (
                serving(ScriptedGenerator(HELLO), tokenizer=tokenizer) as url,
                aiohttp.ClientSession(url) as http,
            ):
                watch.restart()
                async with http.post(path, data=io.BytesIO(body)) as response:
                    assert 200 == response.status, await response.text()
                    while await response.content.readany():
                        pass

    seconds, what = least_of_a_few(scenario)
    assert seconds < LIMIT_SECONDS, what
