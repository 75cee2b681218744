"""Streams between connections and rounds, without a socket: what opens, what is refused, what
ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from shared.errors import RemoteProtocolError, RequestRefused
from shared.messages import (
    MAX_63_BITS,
    MAX_MESSAGE_BYTES,
    AcceptanceMode,
    ChatMessage,
    Error,
    Open,
    Opened,
    Verdict,
    VerifierMessage,
)
from shared.sampling import GREEDY, SamplingParameters
from shared.token_ids import pack_token_ids, unpack_token_ids
from tests.support.scripted import VOCAB_SIZE, scripted_service
from tests.support.waiting import eventually
from verifier.service import MAX_STREAM_TOKENS, Device, VerifierService
from verifier.target import Round, RoundOutcome

SAMPLED = SamplingParameters(1.0)
PROMPT = pack_token_ids([1, 2, 3])


class Mailbox:
    """A connection that keeps what it is to send."""

    def __init__(self) -> None:
        self.messages: list[VerifierMessage] = []
        self.ended: list[int] = []

    def send(self, message: VerifierMessage) -> None:
        self.messages.append(message)

    def stream_ended(self, channel: int) -> None:
        self.ended.append(channel)

    def replace(self) -> None:
        raise AssertionError("nobody else connects")

    @property
    def opened(self) -> Opened:
        (message,) = (m for m in self.messages if isinstance(m, Opened))
        return message

    @property
    def verdicts(self) -> list[Verdict]:
        return [message for message in self.messages if isinstance(message, Verdict)]


@asynccontextmanager
async def running(service: VerifierService) -> AsyncIterator[tuple[Device, Mailbox]]:
    rounds = asyncio.create_task(service.run())
    try:
        yield service.device("board"), Mailbox()
    finally:
        service.stop()
        await rounds


def opened(**fields: Any) -> tuple[Mailbox, VerifierService]:
    """Open one stream and let it run to its end."""
    service = scripted_service(context_tokens=256)

    async def run() -> Mailbox:
        async with running(service) as (device, mailbox):
            await service.open_stream(device, mailbox, Open(4, 9, **fields))
            await eventually(lambda: bool(mailbox.ended))
            return mailbox

    return asyncio.run(run()), service


@pytest.mark.parametrize(
    ("sampling", "seed", "asked_for", "expected"),
    [
        (GREEDY, None, None, "coupled"),
        (GREEDY, None, "rejection", "coupled"),
        (SAMPLED, None, None, "rejection"),
        (SAMPLED, 5, None, "coupled"),
        (SAMPLED, 5, "rejection", "rejection"),
        (SAMPLED, None, "coupled", "coupled"),
    ],
)
def test_the_acceptance_mode_follows_from_the_request(
    sampling: SamplingParameters,
    seed: int | None,
    asked_for: AcceptanceMode | None,
    expected: AcceptanceMode,
) -> None:
    mailbox, _ = opened(
        prompt=PROMPT, sampling=sampling, seed=seed, acceptance_mode=asked_for, max_tokens=3
    )
    assert expected == mailbox.opened.acceptance_mode


def test_a_prompt_may_be_ids_a_chat_or_text() -> None:
    tokenizer = scripted_service().tokenizer
    turns = (ChatMessage("user", "hello"), ChatMessage("assistant", "yes"))
    chat_ids = tokenizer.encode_chat([("user", "hello"), ("assistant", "yes")])
    for fields, expected in (
        ({"prompt": PROMPT, "messages": turns, "text": "unread"}, [1, 2, 3]),
        ({"messages": turns, "text": "unread"}, chat_ids),
        ({"text": "once"}, tokenizer.encode_text("once")),
    ):
        mailbox, _ = opened(max_tokens=2, **fields)
        assert expected == unpack_token_ids(mailbox.opened.prompt, VOCAB_SIZE).tolist()


def test_a_stream_is_opened_before_its_first_verdict_and_ended_after_its_last() -> None:
    mailbox, service = opened(prompt=PROMPT, sampling=GREEDY, max_tokens=5)
    assert isinstance(mailbox.messages[0], Opened)
    assert [4] * 6 == [message.channel for message in mailbox.messages]  # type: ignore[union-attr]
    assert [0, 1, 2, 3, 4] == [verdict.position for verdict in mailbox.verdicts]
    assert [False] * 4 + [True] == [verdict.finish is not None for verdict in mailbox.verdicts]
    assert [4] == mailbox.ended
    assert {} == service.planner.streams


def test_without_a_seed_each_stream_gets_its_own() -> None:
    seeds = {opened(prompt=PROMPT, max_tokens=1)[0].opened.seed for _ in range(5)}
    assert 5 == len(seeds)
    assert all(0 <= seed <= MAX_63_BITS for seed in seeds)


def test_seeds_come_from_the_source_that_was_given() -> None:
    parts = scripted_service()
    service = VerifierService(
        parts.planner,
        parts.target,
        parts.tokenizer,
        parts.limits,
        parts.metrics,
        seeds=random.Random(3),
    )

    async def seed() -> int:
        mailbox = Mailbox()
        await service.open_stream(service.device("board"), mailbox, Open(0, 0, prompt=PROMPT))
        return mailbox.opened.seed

    assert random.Random(3).randint(0, MAX_63_BITS) == asyncio.run(seed())


@pytest.mark.parametrize(
    ("max_tokens", "num_prompt", "expected"),
    [(5, 10, ("length", 5)), (None, 250, ("context", 6)), (100, 250, ("context", 6))],
)
def test_output_ends_at_the_request_or_at_the_context(
    max_tokens: int | None, num_prompt: int, expected: tuple[str, int]
) -> None:
    prompt = pack_token_ids([1] * num_prompt)
    mailbox, _ = opened(prompt=prompt, sampling=GREEDY, max_tokens=max_tokens)
    finish = mailbox.verdicts[-1].finish
    assert finish is not None
    assert expected == (finish.reason, len(mailbox.verdicts))


def test_a_stream_taken_up_again_goes_on_behind_its_committed_tokens() -> None:
    whole, _ = opened(prompt=PROMPT, sampling=SAMPLED, seed=8, max_tokens=9)
    token_ids = [
        int(token_id)
        for verdict in whole.verdicts
        for token_id in unpack_token_ids(verdict.tokens, VOCAB_SIZE)
    ]
    rest, _ = opened(
        prompt=PROMPT,
        sampling=SAMPLED,
        seed=8,
        max_tokens=9,
        committed=pack_token_ids(token_ids[:6]),
    )
    assert [6, 7, 8] == [verdict.position for verdict in rest.verdicts]
    assert whole.verdicts[6:] == rest.verdicts


def test_a_stream_whose_committed_tokens_are_all_of_it_ends_at_once() -> None:
    mailbox, service = opened(
        prompt=PROMPT, committed=pack_token_ids([5, 6, 7]), max_tokens=3, sampling=GREEDY
    )
    (verdict,) = mailbox.verdicts
    assert (3, 0, b"") == (verdict.position, verdict.num_accepted, verdict.tokens)
    assert verdict.finish is not None
    assert "length" == verdict.finish.reason
    assert {} == service.planner.queue


def refusal(service: VerifierService, message: Open) -> Exception:
    async def run() -> Exception:
        async with running(service) as (device, mailbox):
            with pytest.raises((RequestRefused, RemoteProtocolError)) as refused:
                await service.open_stream(device, mailbox, message)
            assert [] == mailbox.messages
            return refused.value

    return asyncio.run(run())


def test_what_never_fits_into_the_cache_is_refused_before_it_is_opened() -> None:
    service = scripted_service()
    blocks = service.planner.blocks
    service.limits = msgspec.structs.replace(service.limits, context_tokens=10**9, max_tokens=10**9)
    error = refusal(service, Open(0, 0, prompt=PROMPT, max_tokens=1 << 24))
    capacity = blocks.num_blocks * blocks.block_tokens
    assert f"{(1 << 24) + 3} tokens exceed the cache of {capacity}" == str(error)
    assert isinstance(error, RequestRefused)
    assert "max_tokens" == error.field


def test_malformed_committed_tokens_are_an_error() -> None:
    error = refusal(scripted_service(), Open(0, 0, prompt=PROMPT, committed=b"\x09"))
    assert "token ids of 1 bytes are malformed" == str(error)


def test_no_stream_is_longer_than_what_fits_into_a_message() -> None:
    parts = scripted_service()
    limits = msgspec.structs.replace(parts.limits, context_tokens=1 << 20)
    service = VerifierService(parts.planner, parts.target, parts.tokenizer, limits, parts.metrics)
    assert MAX_STREAM_TOKENS == service.limits.context_tokens
    assert 3 * MAX_STREAM_TOKENS + 16 * 256 * 4 < MAX_MESSAGE_BYTES - 1024


def test_a_cancelled_stream_ends_cancelled() -> None:
    service = scripted_service()

    async def cancel() -> Mailbox:
        async with running(service) as (device, mailbox):
            stream = await service.open_stream(device, mailbox, Open(2, 0, prompt=PROMPT))
            service.cancel(stream)
            service.cancel(stream)
            await eventually(lambda: bool(mailbox.ended))
            service.cancel(stream)
            return mailbox

    mailbox = asyncio.run(cancel())
    finish = mailbox.verdicts[-1].finish
    assert finish is not None
    assert "cancelled" == finish.reason
    assert [2] == mailbox.ended


def test_a_dropped_stream_says_nothing_more() -> None:
    service = scripted_service(delay_seconds=lambda _: 0.01)

    async def drop() -> tuple[int, int]:
        async with running(service) as (device, mailbox):
            stream = await service.open_stream(device, mailbox, Open(2, 0, prompt=PROMPT))
            await eventually(lambda: len(mailbox.verdicts) == 2)
            service.drop(stream)
            service.drop(stream)
            num_before = len(mailbox.messages)
            await eventually(lambda: not service.planner.streams)
            return num_before, len(mailbox.messages)

    num_before, num_after = asyncio.run(drop())
    assert num_before == num_after


def test_a_target_that_fails_ends_the_streams_of_its_round_with_one_sentence(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service = scripted_service()
    verify = service.target.verify
    num_rounds = 0

    def fail_once(round_: Round) -> RoundOutcome:
        nonlocal num_rounds
        num_rounds += 1
        if num_rounds == 2:
            raise ZeroDivisionError
        return verify(round_)

    monkeypatch.setattr(service.target, "verify", fail_once)

    async def run() -> tuple[Mailbox, Mailbox]:
        async with running(service) as (device, first):
            await service.open_stream(device, first, Open(1, 0, prompt=PROMPT, max_tokens=9))
            await eventually(lambda: bool(first.ended))
            second = Mailbox()
            await service.open_stream(device, second, Open(2, 0, prompt=PROMPT, max_tokens=9))
            await eventually(lambda: bool(second.ended))
            return first, second

    first, second = asyncio.run(run())
    assert Error("model", "the target model failed", 1) == first.messages[-1]
    assert 1 == len(first.verdicts)
    assert 9 == len(second.verdicts)
    assert "ZeroDivisionError" in caplog.text


def test_a_device_is_remembered_between_its_connections() -> None:
    service = scripted_service()
    assert service.device("board") is service.device("board")
    assert service.device("board") is not service.device("other")
