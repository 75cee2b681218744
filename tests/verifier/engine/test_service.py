"""Streams between connections and rounds, without a socket: what opens, what is refused, what
ends."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from shared.errors import RemoteProtocolError, RequestRefused
from shared.protocol.codec import encode
from shared.protocol.messages import (
    MAX_63_BITS,
    PART_BYTES,
    AcceptanceMode,
    Error,
    ErrorCode,
    Finish,
    Open,
    Opened,
    PromptPart,
    Resume,
    Verdict,
    VerifierMessage,
)
from shared.protocol.token_ids import pack_token_ids, unpack_token_ids
from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.support.chats.turns import turns
from tests.support.ends.scripted import VOCAB_SIZE, scripted_service
from tests.support.ends.waiting import eventually
from verifier.engine.device import Device
from verifier.engine.service import VerifierService
from verifier.engine.verdicts import missed_messages
from verifier.streams.stream import Stream
from verifier.target.round import Round, RoundOutcome

SAMPLED = SamplingParameters(1.0)
PROMPT = pack_token_ids([1, 2, 3])


class Mailbox:
    """A connection that keeps what it is to send."""

    def __init__(self) -> None:
        self.messages: list[VerifierMessage] = []
        self.ended: list[int] = []

    def send(self, message: VerifierMessage) -> None:
        self.messages.append(message)

    def send_parts(self, messages: Sequence[VerifierMessage]) -> None:
        self.messages += messages

    def stream_ended(self, channel: int) -> None:
        self.ended.append(channel)

    def replace(self) -> None:
        raise AssertionError("nobody else connects")

    @property
    def token_ids(self) -> list[int]:
        """What all verdicts brought: without drafts they are the target's own."""
        return [id_ for v in self.verdicts for id_ in unpack_token_ids(v.tokens, VOCAB_SIZE)]

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
        (SAMPLED, None, None, "coupled"),  # of a board that is not known yet
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
    chat = tuple(turns([("user", "hello"), ("assistant", "yes")]))
    chat_ids = tokenizer.encode_chat(chat)
    for fields, expected in (
        ({"prompt": PROMPT, "messages": chat, "text": "unread"}, []),  # whose ids it knows
        ({"messages": chat, "text": "unread"}, chat_ids),
        ({"text": "once"}, tokenizer.encode_text("once")),
    ):
        mailbox, _ = opened(max_tokens=2, **fields)
        assert expected == unpack_token_ids(mailbox.opened.prompt, VOCAB_SIZE).tolist()

    texts = [
        opened(sampling=GREEDY, max_tokens=9, prompt=PROMPT, messages=unread)[0].token_ids
        for unread in ((), chat)
    ]
    assert texts[0] == texts[1]


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
    token_ids = whole.token_ids
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


def test_a_prompt_beyond_one_message_is_told_in_parts() -> None:
    service = scripted_service(context_tokens=1 << 17)

    async def opened() -> Mailbox:
        async with running(service) as (device, mailbox):
            message = Open(2, 0, text="ab" * 50_000, max_tokens=1)
            await service.open_stream(device, mailbox, message)
            return mailbox  # all is told; to read 100,000 tokens would take seconds

    mailbox = asyncio.run(opened())
    parts = [part for part in mailbox.messages if isinstance(part, PromptPart)]
    told = unpack_token_ids(mailbox.opened.prompt, VOCAB_SIZE).tolist()
    for part in parts:
        assert (2, len(told)) == (part.channel, part.offset)
        told += unpack_token_ids(part.tokens, VOCAB_SIZE).tolist()
    assert service.tokenizer.encode_text("ab" * 50_000) == told
    assert 100_000 == mailbox.opened.num_prompt_tokens
    assert all(len(encode(message)) <= PART_BYTES + 100 for message in mailbox.messages)


def test_who_gave_the_ids_of_a_prompt_is_not_told_them() -> None:
    service = scripted_service()

    async def opened() -> Mailbox:
        async with running(service) as (device, mailbox):
            await service.open_stream(device, mailbox, Open(2, 0, prompt=PROMPT, max_tokens=1))
            await eventually(lambda: bool(mailbox.ended))
            return mailbox

    assert (b"", 0) == (
        (told := asyncio.run(opened()).opened).prompt,
        told.num_prompt_tokens,
    )


@pytest.mark.parametrize(
    ("num_tokens", "num_verdicts", "most"),
    [(6_154, 3, 2048), (131_082, 64, 2048), (10**6, 64, 15_625)],
)
def test_a_long_output_that_the_board_lacks_is_told_in_several_verdicts(
    num_tokens: int, num_verdicts: int, most: int
) -> None:
    output_ids = [7] * num_tokens
    verdicts = list(missed_messages(3, output_ids, 10, Finish("length", 5)))
    assert [None] * (num_verdicts - 1) == [verdict.finish for verdict in verdicts[:-1]]
    assert Finish("length", 5) == verdicts[-1].finish
    position = 10
    for verdict in verdicts:
        assert (3, position, 0) == (verdict.channel, verdict.position, verdict.num_accepted)
        told = unpack_token_ids(verdict.tokens, VOCAB_SIZE)
        assert len(told) <= most
        position += len(told)
    assert num_tokens == position
    assert [] == list(missed_messages(3, output_ids, num_tokens, None))


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


def test_a_discarded_stream_says_nothing_more() -> None:
    service = scripted_service(delay_seconds=lambda _: 0.01)

    async def drop() -> tuple[int, int]:
        async with running(service) as (device, mailbox):
            stream = await service.open_stream(device, mailbox, Open(2, 0, prompt=PROMPT))
            await eventually(lambda: len(mailbox.verdicts) == 2)
            service.discard(stream)
            service.discard(stream)
            num_before = len(mailbox.messages)
            await eventually(lambda: not service.planner.streams)
            return num_before, len(mailbox.messages)

    num_before, num_after = asyncio.run(drop())
    assert num_before == num_after


def test_a_target_that_fails_ends_the_streams_of_its_round_with_one_sentence(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service = scripted_service()
    verify = service.target.run
    num_rounds = 0

    def fail_once(round_: Round) -> RoundOutcome:
        nonlocal num_rounds
        num_rounds += 1
        if num_rounds == 2:
            raise ZeroDivisionError
        return verify(round_)

    monkeypatch.setattr(service.target, "run", fail_once)

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


# --- boards that come back ------------------------------------------------------------------------

ASKED = Open(
    4, 9, prompt=PROMPT, sampling=SAMPLED, seed=8, stop=("never",), max_tokens=40, draft_length=3
)


def slow_service(grace_seconds: float = 60.0) -> VerifierService:
    service = scripted_service(delay_seconds=lambda _: 0.001)
    service.limits = msgspec.structs.replace(service.limits, grace_seconds=grace_seconds)
    return service


def undisturbed() -> list[int]:
    return opened(**{f: getattr(ASKED, f) for f in ("prompt", "sampling", "seed", "max_tokens")})[
        0
    ].token_ids


def next_connection(device: Device) -> Mailbox:
    """The device greets anew."""
    device.epoch += 1
    return Mailbox()


async def cut_off(
    service: VerifierService, device: Device, num_tokens: int, message: Open = ASKED
) -> tuple[Stream, Mailbox]:
    """Open a stream, and lose its connection when it has said so many tokens."""
    mailbox = next_connection(device)
    stream = await service.open_stream(device, mailbox, message)
    assert stream is not None
    await eventually(lambda: len(mailbox.token_ids) >= num_tokens)
    service.park(stream)
    await eventually(lambda: not service.planner.streams)
    return stream, mailbox


@asynccontextmanager
async def in_a_round(
    service: VerifierService, verify: Callable[[Round], RoundOutcome]
) -> AsyncIterator[None]:
    """The block opens a stream; behind it the first round runs, until the event loop goes on."""
    has_begun, may_end = threading.Event(), threading.Event()

    def wait(round_: Round) -> RoundOutcome:
        has_begun.set()
        assert may_end.wait(5)
        return verify(round_)

    service.target.run = wait  # type: ignore[method-assign]
    yield
    await eventually(has_begun.is_set)
    asyncio.get_running_loop().call_soon(may_end.set)


def committed(token_ids: list[int]) -> Open:
    return msgspec.structs.replace(ASKED, channel=0, committed=pack_token_ids(token_ids))


@pytest.mark.parametrize("num_known", [0, 1, 9, 10])
def test_a_board_that_comes_back_gets_what_was_committed_since_and_nothing_is_read_anew(
    num_known: int,
) -> None:
    service = slow_service()

    async def come_back() -> tuple[Mailbox, list[int], int]:
        async with running(service) as (device, _):
            stream, before = await cut_off(service, device, 10)
            known = before.token_ids[:num_known]
            num_cached = stream.num_cached_tokens
            assert num_cached == 3 + stream.position - 1
            num_queried = service.planner.admission.num_prefix_query_tokens
            after = next_connection(device)
            assert stream is await service.open_stream(device, after, committed(known))
            assert num_cached == stream.num_cached_tokens
            await eventually(lambda: bool(after.ended))
            assert num_queried == service.planner.admission.num_prefix_query_tokens
            return after, known, stream.number

    after, known, _ = asyncio.run(come_back())
    assert isinstance(after.messages[0], Opened)
    assert undisturbed() == known + after.token_ids
    assert len(known) == after.verdicts[0].position
    assert [0] == after.ended
    assert 1 == service.metrics.registry.get_sample_value("goodspeed_streams_resumed_total")


async def asked_twice(service: VerifierService, device: Device) -> list[Mailbox]:
    """The mailboxes of two streams with the same prompt of 40 tokens, one after the other."""
    message = Open(0, 1, prompt=pack_token_ids(range(1, 41)), max_tokens=3)
    mailboxes = []
    for _ in range(2):
        mailboxes.append(next_connection(device))
        await service.open_stream(device, mailboxes[-1], message)
        await eventually(lambda: bool(mailboxes[-1].ended))
    return mailboxes


def test_the_first_verdict_says_how_much_of_the_prompt_was_in_the_cache() -> None:
    service = scripted_service()
    service.limits = msgspec.structs.replace(service.limits, grace_seconds=0.0)

    async def ask() -> list[Mailbox]:
        async with running(service) as (device, _):
            return await asked_twice(service, device)

    first, second = asyncio.run(ask())
    assert [0, 0, 0] == [verdict.cached_prefix_tokens for verdict in first.verdicts]
    assert [32, 0, 0] == [verdict.cached_prefix_tokens for verdict in second.verdicts]
    assert [0, 0] == [mailbox.opened.cached_prefix_tokens for mailbox in (first, second)]


@pytest.mark.parametrize("num_tokens", [1, 40])
def test_a_board_that_comes_back_is_told_at_once_what_was_in_the_cache(num_tokens: int) -> None:
    """Also when the stream has ended meanwhile."""
    service = scripted_service()
    message = Open(0, 1, prompt=pack_token_ids(range(1, 41)), max_tokens=num_tokens)

    async def come_back() -> Mailbox:
        async with running(service) as (device, _):
            warm = next_connection(device)
            await service.open_stream(device, warm, msgspec.structs.replace(message, stream_id=2))
            await eventually(lambda: bool(warm.ended))
            async with in_a_round(service, service.target.run):
                stream = await service.open_stream(device, next_connection(device), message)
                assert stream is not None
            service.park(stream)
            await eventually(lambda: stream.position > 0)
            after = next_connection(device)
            await service.open_stream(device, after, Resume(0, 1))
            await eventually(lambda: bool(after.ended))
            return after

    assert 32 == asyncio.run(come_back()).opened.cached_prefix_tokens


def test_no_rounds_run_for_a_board_that_is_gone() -> None:
    service = slow_service()

    async def wait() -> tuple[int, int]:
        async with running(service) as (device, _):
            stream, _ = await cut_off(service, device, 5)
            position = stream.position
            mailbox, message = Mailbox(), Open(1, 1, prompt=PROMPT, max_tokens=9)
            await service.open_stream(service.device("other"), mailbox, message)
            await eventually(lambda: bool(mailbox.ended))
            return position, stream.position

    before, after = asyncio.run(wait())
    assert before == after


def test_the_last_verdict_can_be_had_again_and_again() -> None:
    service = slow_service()

    async def come_back() -> tuple[Mailbox, list[Mailbox]]:
        async with running(service) as (device, _):
            first = next_connection(device)
            await service.open_stream(device, first, ASKED)
            await eventually(lambda: bool(first.ended))
            again = []
            for num_known in (30, 40):
                again.append(next_connection(device))
                message = committed(first.token_ids[:num_known])
                assert await service.open_stream(device, again[-1], message) is None
            return first, again

    first, again = asyncio.run(come_back())
    for num_known, mailbox in zip((30, 40), again, strict=True):
        (verdict,) = mailbox.verdicts
        assert first.verdicts[-1].finish == verdict.finish
        assert first.token_ids[num_known:] == mailbox.token_ids
        assert (first.opened.seed, first.opened.prompt) == (
            mailbox.opened.seed,
            mailbox.opened.prompt,
        )
        assert [0] == mailbox.ended


def test_a_stream_that_ends_in_the_round_in_which_its_board_is_lost_is_kept() -> None:
    service = scripted_service()

    async def come_back() -> Mailbox:
        async with running(service) as (device, _):
            before = next_connection(device)
            message = msgspec.structs.replace(ASKED, max_tokens=1)
            async with in_a_round(service, service.target.run):
                stream = await service.open_stream(device, before, message)
                assert stream is not None
            service.park(stream)
            await eventually(lambda: stream.finish is not None)
            assert [] == before.verdicts
            after = next_connection(device)
            await service.open_stream(device, after, message)
            return after

    (verdict,) = asyncio.run(come_back()).verdicts
    assert verdict.finish is not None
    assert "length" == verdict.finish.reason


def test_a_restarted_board_gets_its_stream_by_its_name() -> None:
    service = slow_service()

    async def come_back() -> Mailbox:
        async with running(service) as (device, _):
            await cut_off(service, device, 10)
            after = next_connection(device)
            await service.open_stream(device, after, Resume(7, 9))
            await eventually(lambda: bool(after.ended))
            return after

    after = asyncio.run(come_back())
    assert undisturbed() == after.token_ids
    expected = (PROMPT, 8, "coupled", SAMPLED, ("never",), 40, 3)
    told = after.opened
    assert expected == (
        told.prompt,
        told.seed,
        told.acceptance_mode,
        told.sampling,
        told.stop,
        told.max_tokens,
        told.draft_length,
    )


def unknown(message: Open | Resume, **about: Any) -> Exception:
    """What a board is told that comes back for a stream that is not kept, or not for it."""
    device_name, grace_seconds = about.get("device", "board"), about.get("grace_seconds", 60.0)
    service = slow_service(grace_seconds)

    async def come_back() -> Exception:
        async with running(service) as (device, _):
            stream, _ = await cut_off(service, device, 5)
            if about.get("leaves"):
                service.discard_kept(device)
            await eventually(
                lambda: bool(grace_seconds > 1 or not service.planner.admission.parked)
            )
            other = service.device(device_name)
            mailbox = next_connection(other)
            with pytest.raises(RemoteProtocolError) as refused:
                await service.open_stream(other, mailbox, message)
            assert [] == mailbox.messages
            is_kept = stream in service.planner.admission.parked.values()
            assert is_kept == (about.get("is_kept", False))
            return refused.value

    return asyncio.run(come_back())


@pytest.mark.parametrize(
    "about",
    [
        {"message": Resume(0, 8), "is_kept": True},  # another name
        {"message": Resume(0, 9, position=1000), "is_kept": True},  # beyond its end
        {"message": Resume(0, 9), "device": "other", "is_kept": True},
        {"message": Resume(0, 9), "leaves": True},
        {"message": Resume(0, 9), "grace_seconds": 0.0},
        {"message": Resume(0, 9), "grace_seconds": 0.05},
    ],
)
def test_what_is_not_kept_for_a_board_it_is_told_in_a_sentence(about: dict[str, Any]) -> None:
    error = unknown(**about)
    assert "this verifier does not have the stream any more" == str(error)
    assert ErrorCode.UNKNOWN_STREAM == error.code  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "changes",
    [{"committed": pack_token_ids([63, 63])}, {"prompt": pack_token_ids([1, 2])}],
)
def test_a_stream_that_does_not_fit_is_opened_anew_and_the_kept_one_let_go(
    changes: dict[str, Any],
) -> None:
    service = slow_service()

    async def come_back() -> Mailbox:
        async with running(service) as (device, _):
            stream, _ = await cut_off(service, device, 5)
            after = next_connection(device)
            message = msgspec.structs.replace(ASKED, **changes)
            assert stream is not await service.open_stream(device, after, message)
            assert {} == service.planner.admission.parked
            await eventually(lambda: bool(after.ended))
            return after

    after = asyncio.run(come_back())
    assert 40 == len(after.token_ids) + len(changes.get("committed", b"")) // 2


def test_the_same_name_on_the_same_connection_is_another_stream() -> None:
    service = slow_service()

    async def ask_twice() -> Mailbox:
        async with running(service) as (device, mailbox):
            for _ in range(2):
                await service.open_stream(device, mailbox, ASKED)
                await eventually(lambda: len(mailbox.ended) == 1)
                mailbox.ended.clear()
            return mailbox

    assert 2 * undisturbed() == asyncio.run(ask_twice()).token_ids


def test_a_stream_whose_round_fails_is_not_kept() -> None:
    service = scripted_service()

    def fail(_: Round) -> RoundOutcome:
        raise ZeroDivisionError

    async def come_back() -> None:
        async with running(service) as (device, _):
            mailbox = next_connection(device)
            async with in_a_round(service, fail):
                stream = await service.open_stream(device, mailbox, ASKED)
                assert stream is not None
            service.park(stream)
            await eventually(lambda: stream.finish is not None)
            assert (0, 0) == (device.kept.num_open, device.kept.num_ended)

    asyncio.run(come_back())


def test_cancelled_streams_are_not_kept() -> None:
    service = slow_service()

    async def cancel() -> None:
        async with running(service) as (device, _):
            for is_lost in (False, True):
                mailbox = next_connection(device)
                stream = await service.open_stream(device, mailbox, ASKED)
                assert stream is not None
                await eventually(lambda m=mailbox: len(m.token_ids) > 3)  # type: ignore[misc]
                service.cancel(stream)
                if is_lost:
                    service.park(stream)
                await eventually(lambda: not service.planner.streams)
                assert (0, 0) == (device.kept.num_open, device.kept.num_ended)

    asyncio.run(cancel())


def test_when_its_time_is_over_a_stream_leaves_nothing_behind() -> None:
    service = slow_service(grace_seconds=0.05)

    async def expire() -> None:
        async with running(service) as (device, _):
            await cut_off(service, device, 5)
            await cut_off(service, device, 5, msgspec.structs.replace(ASKED, stream_id=10))
            assert 0 < device.kept.num_open <= 2
            blocks = service.planner.blocks
            await eventually(lambda: blocks.num_free_blocks == blocks.num_blocks)
            assert (0, None) == (device.kept.num_open, device.expiry)

    asyncio.run(expire())


def test_a_device_keeps_no_more_streams_than_it_may_have() -> None:
    service = scripted_service(delay_seconds=lambda _: 0.001, max_streams_per_device=2)

    async def park() -> list[int]:
        async with running(service) as (device, _):
            streams = [
                (await cut_off(service, device, 3, msgspec.structs.replace(ASKED, stream_id=i)))[0]
                for i in range(4)
            ]
            kept = service.planner.admission.parked
            return [i for i, stream in enumerate(streams) if stream.number in kept]

    assert [2, 3] == asyncio.run(park())


def test_a_verifier_that_stops_keeps_nothing() -> None:
    service = slow_service()

    async def stop() -> Device:
        async with running(service) as (device, _):
            await cut_off(service, device, 5)
            return device

    device = asyncio.run(stop())
    assert (0, None) == (device.kept.num_open, device.expiry)
