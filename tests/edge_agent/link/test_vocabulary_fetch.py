"""A board without a model gets its vocabulary from the verifier, and keeps it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from edge_agent.draft_model.model_free_drafter import ModelFreeDrafter
from edge_agent.drafting.settings import DraftSettings
from edge_agent.generation.generation import GenerationRequest
from edge_agent.link.vocabulary_fetch import fetch_vocabulary, get_vocabulary
from shared.errors import AuthRejected, LinkLost, ModelError
from shared.protocol.messages import AcceptanceMode
from shared.protocol.vocabulary import pack_vocabulary
from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.support.ends.loopback import Verifier, chat, generate, running_agent, running_verifier
from tests.support.ends.scripted import scripted_service, target_text
from tests.support.ends.waiting import eventually

WRONG_TOKEN = f"gsd_board_{'A' * 43}"


def with_verifier(scene: Callable[[Verifier], Awaitable[None]]) -> None:
    async def play() -> None:
        async with running_verifier(scripted_service()) as verifier:
            await scene(verifier)

    asyncio.run(play())


def vocabulary_of(verifier: Verifier) -> tuple[bytes, ...]:
    return tuple(verifier.service.tokenizer.token_bytes)


def kept_file(directory: Path) -> Path:
    (file,) = directory.iterdir()
    return file


def test_the_verifiers_vocabulary_comes_and_is_kept(tmp_path: Path) -> None:
    async def scene(verifier: Verifier) -> None:
        token = verifier.tokens["board"]
        expected = vocabulary_of(verifier)
        assert expected == await get_vocabulary(verifier.url, token, tmp_path)
        kept = kept_file(tmp_path)
        assert pack_vocabulary(expected) == kept.read_bytes()
        written_at = kept.stat().st_mtime_ns
        assert expected == await get_vocabulary(verifier.url, token, tmp_path)
        assert written_at == kept.stat().st_mtime_ns

    with_verifier(scene)


def test_what_is_known_already_does_not_travel_again() -> None:
    async def scene(verifier: Verifier) -> None:
        known = pack_vocabulary(vocabulary_of(verifier))
        assert known is await fetch_vocabulary(verifier.url, verifier.tokens["board"], known)

    with_verifier(scene)


def test_another_vocabulary_takes_the_place_of_the_kept_one(tmp_path: Path) -> None:
    async def scene(verifier: Verifier) -> None:
        token = verifier.tokens["board"]
        await get_vocabulary(verifier.url, token, tmp_path)
        kept = kept_file(tmp_path)
        for content in (pack_vocabulary([b"a"]), b"damaged"):
            kept.write_bytes(content)
            expected = vocabulary_of(verifier)
            assert expected == await get_vocabulary(verifier.url, token, tmp_path)
            assert pack_vocabulary(expected) == kept.read_bytes()

    with_verifier(scene)


def test_while_the_verifier_is_away_the_kept_one_serves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        async with running_verifier(scripted_service()) as verifier:
            expected = vocabulary_of(verifier)
            await get_vocabulary(verifier.url, verifier.tokens["board"], tmp_path)
        assert expected == await get_vocabulary(verifier.url, WRONG_TOKEN, tmp_path)

    asyncio.run(scene())
    assert "using the vocabulary of the last time" in caplog.text


def test_without_one_it_waits_for_the_verifier_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.link.backoff.FIRST_DELAY_SECONDS", 0.01)

    async def scene() -> None:
        async with running_verifier(scripted_service()) as first:
            port, token = first.port, first.tokens["board"]
        getting = asyncio.create_task(get_vocabulary(f"ws://127.0.0.1:{port}", token, tmp_path))
        await eventually(lambda: sum("no vocabulary yet" in m for m in caplog.messages) >= 3)
        async with running_verifier(scripted_service(), port=port) as verifier:
            assert vocabulary_of(verifier) == await getting

    with caplog.at_level(logging.DEBUG, "edge_agent.link.vocabulary_fetch"):
        asyncio.run(scene())
    assert 1 == sum(record.levelno == logging.WARNING for record in caplog.records)


def test_a_token_that_is_not_known_is_one_sentence(tmp_path: Path) -> None:
    async def scene(verifier: Verifier) -> None:
        with pytest.raises(AuthRejected, match="does not accept this device's token"):
            await get_vocabulary(verifier.url, WRONG_TOKEN, tmp_path)

    with_verifier(scene)


def test_a_server_that_hands_out_none_is_one_sentence(tmp_path: Path) -> None:
    async def scene(verifier: Verifier) -> None:
        with pytest.raises(ModelError, match=r"hands out no vocabulary: set draft\.model"):
            await get_vocabulary(f"{verifier.url}/elsewhere", WRONG_TOKEN, tmp_path)

    with_verifier(scene)


def test_nobody_there_is_a_lost_link() -> None:
    with pytest.raises(LinkLost, match=r"cannot reach the verifier at ws://127\.0\.0\.1:1"):
        asyncio.run(fetch_vocabulary("ws://127.0.0.1:1", WRONG_TOKEN, b""))


@pytest.mark.parametrize("mode", ["coupled", "rejection"])
def test_a_board_without_a_model_drafts_and_its_text_is_the_targets(
    tmp_path: Path, mode: AcceptanceMode
) -> None:
    """The scripted target looks at two tokens, so its greedy text soon goes round in circles."""

    async def scene(verifier: Verifier) -> None:
        vocabulary = await get_vocabulary(verifier.url, verifier.tokens["board"], tmp_path)
        drafter = ModelFreeDrafter(vocabulary, num_slots=4, context_tokens=2048)
        settings = DraftSettings(32, 0.0, 64, 2048, ngram_tokens=4, has_model=False)
        request = GenerationRequest(
            messages=chat("hello"),
            sampling=GREEDY if mode == "coupled" else SamplingParameters(0.05),
            seed=3,
            max_tokens=600,
            acceptance_mode=mode,
        )
        async with running_agent(verifier, drafter, settings=settings) as agent:
            text, finished = await generate(agent, request)
        assert finished.timings.accepted_tokens > 50
        if mode == "coupled":
            assert target_text(request) == text

    with_verifier(scene)
