"""Whatever a board sends wrongly: one clear error, an end for it alone, no trace in others'
text."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import aiohttp
import msgpack
import msgspec
import numpy as np
import pytest

from edge_agent.agent import Agent
from edge_agent.drafter import scripted_drafter
from edge_agent.generation import GenerationRequest
from shared.errors import VerifierAway
from shared.messages import (
    MAX_MESSAGE_BYTES,
    Cancel,
    ChatMessage,
    Draft,
    Error,
    ErrorCode,
    Goodbye,
    Hello,
    Open,
    Opened,
    Ready,
    Verdict,
)
from shared.sampling import GREEDY, SamplingParameters
from shared.scripted_model import ScriptedModel
from shared.sparse_rows import MAX_ROW_ENTRIES, SparseRow, pack_rows
from shared.token_ids import pack_token_ids, unpack_token_ids
from tests.support.loopback import (
    DRAFT_SETTINGS,
    Verifier,
    chat,
    generate,
    running_agent,
    running_verifier,
)
from tests.support.raw_board import DEVICE_PATH, RawBoard, hello_to, raw_board
from tests.support.scripted import TARGET, VOCAB_SIZE, board, scripted_service, target_text
from tests.support.waiting import eventually
from verifier import device_connection
from verifier.scripted_tokenizer import ScriptedTokenizer

Misbehaviour = Callable[[RawBoard], Awaitable[None]]

# In `rejection`, so that the verifier waits for a draft; with one survivor the text is known.
LIKELIEST = SamplingParameters(temperature=1.0, top_k=1)
HEALTHY = GenerationRequest(
    messages=chat("a long story"),
    sampling=SamplingParameters(0.8),
    seed=17,
    max_tokens=40,
    acceptance_mode="coupled",
)


async def beside_a_healthy_agent(
    misbehave: Callable[[Verifier], Coroutine[Any, Any, None]], **service_options: Any
) -> None:
    """Let a device `bad` misbehave while another generates; its texts must be exact."""
    service = scripted_service(delay_seconds=lambda _: 0.001, **service_options)
    async with (
        running_verifier(service, ("bad", "good")) as verifier,
        running_agent(verifier, board(0.2), "good") as agent,
    ):
        bad = asyncio.create_task(misbehave(verifier))
        expected = target_text(HEALTHY)
        num_texts = 0
        while not bad.done() or num_texts == 0:
            text, _ = await generate(agent, HEALTHY)
            assert expected == text
            num_texts += 1
        await bad
        assert "good" in {d.name for d in service.devices.values() if d.outbox is not None}


def run_beside_a_healthy_agent(misbehave: Misbehaviour, *, greets: bool = True) -> None:
    async def with_board(verifier: Verifier) -> None:
        async with raw_board(verifier, "bad", greets=greets) as bad:
            await misbehave(bad)
        service = verifier.service
        await eventually(lambda: service.devices["bad"].outbox is None)
        streams = service.planner.streams  # the running round may still hold one
        await eventually(lambda: all(stream.device == "good" for stream in streams.values()))

    asyncio.run(beside_a_healthy_agent(with_board))


def likeliest_text(text: str, num_tokens: int) -> list[int]:
    """The token ids that follow a prompt with `LIKELIEST`."""
    tokens = ScriptedTokenizer(VOCAB_SIZE).encode_text(text)
    num_prompt = len(tokens)
    for _ in range(num_tokens):
        tokens.append(int(np.argmax(TARGET.logits(tokens))))
    return tokens[num_prompt:]


def row(*entries: tuple[int, int]) -> SparseRow:
    return SparseRow(
        token_ids=np.array([token_id for token_id, _ in entries], dtype=np.uint32),
        weights=np.array([weight for _, weight in entries], dtype=np.uint16),
    )


def certain(*token_ids: int) -> bytes:
    """Rows of a board that is quite sure."""
    return pack_rows(tuple(row((token_id, 9)) for token_id in token_ids))


# --- what ends the connection ---------------------------------------------------------------------


async def opens_twice(bad: RawBoard) -> None:
    await bad.open(3)
    await bad.send(Open(channel=3, stream_id=4, text="again"))


CONNECTION_ERRORS: dict[str, tuple[Callable[[RawBoard], Coroutine[Any, Any, None]], str]] = {
    "no MessagePack": (
        lambda bad: bad.send_packed(b"\xc1"),
        "message is not valid MessagePack: FormatError",
    ),
    "bytes after the message": (
        lambda bad: bad.send_packed(msgpack.packb([7]) + b"\x00"),
        "message is not valid MessagePack: unpack(b) received extra data.",
    ),
    "no array": (
        lambda bad: bad.send_packed(msgpack.packb(5)),
        "message is not allowed: Expected `array`, got `int`",
    ),
    "no type that is known": (
        lambda bad: bad.send_packed(msgpack.packb([99])),
        "message is not allowed: Invalid value 99 - at `$[0]`",
    ),
    "a message of the verifier": (
        lambda bad: bad.send_packed(msgpack.packb([69, 1.0])),
        "message is not allowed: Invalid value 69 - at `$[0]`",
    ),
    "too long": (
        lambda bad: bad.send_packed(bytes(MAX_MESSAGE_BYTES + 1)),
        f"message of {MAX_MESSAGE_BYTES + 1} bytes exceeds {MAX_MESSAGE_BYTES}",
    ),
    "text": (lambda bad: bad.socket.send_str("hello"), "text frames are not allowed"),
    "second Hello": (
        lambda bad: bad.send(Hello(protocol_version=1)),
        "Hello is not allowed while open",
    ),
    "channel used before": (opens_twice, "channel 3 was used before"),
    "channel never opened": (
        lambda bad: bad.send(Ready(7)),
        "channel 7 was never opened",
    ),
    "temperature that is no number": (
        lambda bad: bad.send(Open(0, 0, text="x", sampling=SamplingParameters(float("nan")))),
        "message is not allowed: Expected `float` >= 0.0 - at `$[7][0]`",
    ),
    "infinite temperature": (
        lambda bad: bad.send(Open(0, 0, text="x", sampling=SamplingParameters(float("inf")))),
        "message is not allowed: Expected `float` <= 100.0 - at `$[7][0]`",
    ),
    "top-k below 0": (
        lambda bad: bad.send(Open(0, 0, text="x", sampling=SamplingParameters(1.0, -1))),
        "message is not allowed: Expected `int` >= 0 - at `$[7][1]`",
    ),
    "top-p of 0": (
        lambda bad: bad.send(Open(0, 0, text="x", sampling=SamplingParameters(1.0, 0, 0.0))),
        "message is not allowed: Expected `float` > 0.0 - at `$[7][2]`",
    ),
    "top-p above 1": (
        lambda bad: bad.send(Open(0, 0, text="x", sampling=SamplingParameters(1.0, 0, 1.5))),
        "message is not allowed: Expected `float` <= 1.0 - at `$[7][2]`",
    ),
}


@pytest.mark.parametrize("name", CONNECTION_ERRORS)
def test_a_broken_message_ends_the_connection_with_one_error(name: str) -> None:
    send, sentence = CONNECTION_ERRORS[name]

    async def misbehave(bad: RawBoard) -> None:
        await send(bad)
        assert Error(ErrorCode.PROTOCOL, sentence) == await bad.error()
        await bad.ended()
        assert 1 == sum(isinstance(message, Error) for message in bad.received)

    run_beside_a_healthy_agent(misbehave)


def test_a_message_far_too_long_ends_the_connection_with_its_close_code() -> None:
    async def misbehave(bad: RawBoard) -> None:
        await bad.send_packed(bytes(3 * MAX_MESSAGE_BYTES))
        await bad.ended()
        assert aiohttp.WSCloseCode.MESSAGE_TOO_BIG == bad.socket.close_code

    run_beside_a_healthy_agent(misbehave)


def test_a_draft_before_the_greeting_ends_the_connection() -> None:
    async def misbehave(bad: RawBoard) -> None:
        await bad.draft(0, 0, [1])
        sentence = "Draft is not allowed while greeting"
        assert Error(ErrorCode.PROTOCOL, sentence) == await bad.error()
        await bad.ended()

    run_beside_a_healthy_agent(misbehave, greets=False)


def test_another_protocol_version_is_refused() -> None:
    async def misbehave(bad: RawBoard) -> None:
        await bad.send(Hello(protocol_version=2))
        sentence = "agent speaks protocol 2, verifier 1"
        assert Error(ErrorCode.VERSION, sentence) == await bad.error()
        await bad.ended()

    run_beside_a_healthy_agent(misbehave, greets=False)


def test_a_board_that_says_nothing_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_connection, "HELLO_TIMEOUT_SECONDS", 0.05)

    async def misbehave(bad: RawBoard) -> None:
        assert Error(ErrorCode.LIMIT, "no Hello came within 0.05 s") == await bad.error()
        await bad.ended()

    run_beside_a_healthy_agent(misbehave, greets=False)


# --- who may come in ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": f"Bearer gsd_good_{'A' * 43}"},
        {"Authorization": f"Bearer gsd_nobody_{'A' * 43}"},
        {"Authorization": "Basic dXNlcjpwYXNz"},
    ],
)
def test_a_wrong_or_missing_token_is_refused_at_the_upgrade(headers: dict[str, str]) -> None:
    async def misbehave(verifier: Verifier) -> None:
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(verifier.url + DEVICE_PATH, headers=headers)
        assert 401 == refused.value.status

    asyncio.run(beside_a_healthy_agent(misbehave))


async def why_away(agent: Agent) -> str:
    """Run an agent until its first attempt has failed; what a client is told then."""
    running = asyncio.create_task(agent.run())
    sentence = not_yet = await sentence_of(agent)
    async with asyncio.timeout(10):
        while sentence == not_yet:
            await asyncio.sleep(0.005)
            sentence = await sentence_of(agent)
    running.cancel()
    await asyncio.wait([running])
    return sentence


async def sentence_of(agent: Agent) -> str:
    with pytest.raises(VerifierAway) as away:
        await generate(agent, HEALTHY)
    return str(away.value)


def test_clients_of_an_agent_with_a_wrong_token_are_told() -> None:
    async def misbehave(verifier: Verifier) -> None:
        agent = Agent(
            board(), DRAFT_SETTINGS, url=verifier.url, token=verifier.tokens["bad"][:-1] + "x"
        )
        assert "the verifier does not accept this device's token" == await why_away(agent)

    asyncio.run(beside_a_healthy_agent(misbehave))


def test_an_agent_names_where_its_vocabulary_differs() -> None:
    drafter = scripted_drafter(ScriptedModel(VOCAB_SIZE + 2, 7))
    token_bytes = list(drafter.token_bytes[:VOCAB_SIZE])
    token_bytes[5], token_bytes[9] = b" other", b" words"
    drafter.token_bytes, drafter.model_name = tuple(token_bytes), "other-draft"

    async def misbehave(verifier: Verifier) -> None:
        agent = Agent(drafter, DRAFT_SETTINGS, url=verifier.url, token=verifier.tokens["bad"])
        expected = (
            "draft model other-draft has another vocabulary than scripted: "
            "token id 5 is b' other' here and b' bu' there"
        )
        assert expected == await why_away(agent)

    asyncio.run(beside_a_healthy_agent(misbehave))


def test_an_agent_names_where_its_special_tokens_differ() -> None:
    drafter = board()
    drafter.special_ids, drafter.model_name = frozenset({0, 3}), "other-draft"

    async def misbehave(verifier: Verifier) -> None:
        agent = Agent(drafter, DRAFT_SETTINGS, url=verifier.url, token=verifier.tokens["bad"])
        expected = (
            "draft model other-draft has another vocabulary than scripted: "
            "token id 3 is special here and ordinary there"
        )
        assert expected == await why_away(agent)

    asyncio.run(beside_a_healthy_agent(misbehave))


# --- what ends the stream -------------------------------------------------------------------------

# What a board drafts after its first grant at position `at`, and what the verifier says to it.
DraftOf = Callable[[int], Draft]


def draft(base: int, position: int, token_ids: list[int], rows: bytes = b"") -> Draft:
    return Draft(0, base, position - base, pack_token_ids(token_ids), rows=rows)


DRAFT_ERRORS: dict[str, tuple[DraftOf, str]] = {
    "a gap": (
        lambda at: draft(0, at + 1, [1], certain(1)),
        "draft at {next} leaves a gap after {at}",
    ),
    "a base ahead": (
        lambda at: draft(at + 1, at + 1, [1], certain(1)),
        "draft base {next} is ahead of 0",
    ),
    "beyond the window": (
        lambda at: draft(0, at, [1] * 18, certain(*[1] * 18)),
        "draft up to {beyond} exceeds the window, which ends at {end}",
    ),
    "token id outside the vocabulary": (
        lambda at: draft(0, at, [VOCAB_SIZE], certain(1)),
        f"token id {VOCAB_SIZE} is outside the vocabulary of {VOCAB_SIZE}",
    ),
    "a token id and a half": (
        lambda at: Draft(0, 0, at, b"\x05\x01\x00\x00\x01"),
        "token ids of 5 bytes are malformed",
    ),
    "half a token id": (
        lambda at: Draft(0, 0, at, b"\x01"),
        "token ids of 1 bytes are malformed",
    ),
    "rows cut short": (
        lambda at: draft(0, at, [1], b"\x03\x01"),
        "sparse rows of 2 bytes are too short for 3 rows",
    ),
    "row without entries": (
        lambda at: draft(0, at, [1], b"\x01\x00"),
        f"sparse row of 0 entries is outside 1 to {MAX_ROW_ENTRIES}",
    ),
    "row of too many entries": (
        lambda at: draft(0, at, [1], b"\x01\xff"),
        f"sparse row of 255 entries is outside 1 to {MAX_ROW_ENTRIES}",
    ),
    "row with an id outside the vocabulary": (
        lambda at: draft(0, at, [1], pack_rows((row((1, 5), (VOCAB_SIZE + 3, 4)),))),
        f"token id {VOCAB_SIZE + 3} is outside the vocabulary of {VOCAB_SIZE}",
    ),
    "weight of 0": (
        lambda at: draft(0, at, [1], pack_rows((row((1, 5), (2, 0)),))),
        "sparse row weights must be positive and not increase",
    ),
    "weights that increase": (
        lambda at: draft(0, at, [1], pack_rows((row((1, 5), (2, 6)),))),
        "sparse row weights must be positive and not increase",
    ),
    "id twice in a row": (
        lambda at: draft(0, at, [1], pack_rows((row((1, 5), (1, 5)),))),
        "a sparse row names a token id twice",
    ),
    "row without the drafted token": (
        lambda at: draft(0, at, [1, 2], pack_rows((row((1, 5)), row((1, 5), (3, 4))))),
        "the row of draft token 1 does not hold that token",
    ),
    "no rows in rejection": (
        lambda at: draft(0, at, [1, 2]),
        "a rejection draft of 2 tokens came with 0 rows",
    ),
    "too few rows": (
        lambda at: draft(0, at, [1, 2, 3], certain(3)),
        "1 rows came for 3 draft tokens",
    ),
    "too many rows": (
        lambda at: draft(0, at, [1], certain(1, 2)),
        "2 rows came for 1 draft tokens",
    ),
}


@pytest.mark.parametrize("name", DRAFT_ERRORS)
def test_a_wrong_draft_ends_its_stream_with_one_error(name: str) -> None:
    make, sentence = DRAFT_ERRORS[name]

    async def misbehave(bad: RawBoard) -> None:
        await bad.open(sampling=LIKELIEST)
        verdict = await bad.window()
        at = bad.position_after(verdict)
        await bad.send(make(at))
        end = at + verdict.window
        expected = sentence.format(at=at, next=at + 1, end=end, beyond=at + 18)
        assert Error(ErrorCode.PROTOCOL, expected, channel=0) == await bad.error(0)
        await still_works(bad, channel=1)

    run_beside_a_healthy_agent(misbehave)


async def still_works(bad: RawBoard, channel: int) -> None:
    """The connection goes on: another stream gets its exact text."""
    await bad.open(channel, LIKELIEST, "more", max_tokens=5)
    assert likeliest_text("more", 5) == await committed(bad, channel)


async def committed(bad: RawBoard, channel: int, drafted: list[int] | None = None) -> list[int]:
    """All tokens of a stream, read until it ends; `drafted` are those that verdicts may accept."""
    token_ids: list[int] = []
    for message in bad.received:
        if isinstance(message, Verdict) and message.channel == channel:
            token_ids = with_verdict(bad, token_ids, message, drafted or [])
    while True:
        message = await bad.next()
        assert not isinstance(message, Error), message
        if isinstance(message, Verdict) and message.channel == channel:
            token_ids = with_verdict(bad, token_ids, message, drafted or [])
            if message.finish is not None:
                return token_ids


def with_verdict(
    bad: RawBoard, token_ids: list[int], verdict: Verdict, drafted: list[int]
) -> list[int]:
    assert len(token_ids) == verdict.position
    accepted = drafted[verdict.position : verdict.position + verdict.num_accepted]
    own = unpack_token_ids(verdict.tokens, bad.vocab_size).tolist()
    return [*token_ids, *accepted, *own]


def test_a_conflicting_overlap_ends_its_stream() -> None:
    expected_ids = likeliest_text("a prompt", 40)

    async def misbehave(bad: RawBoard) -> None:
        await bad.open(sampling=LIKELIEST)
        at = bad.position_after(await bad.window())
        right = expected_ids[at : at + 2]
        await bad.draft(0, at, right, certain(*right))
        while (verdict := await bad.next_of(Verdict)).num_accepted == 0:
            pass
        assert 2 == verdict.num_accepted
        wrong = [right[0], (right[1] + 1) % VOCAB_SIZE]
        await bad.draft(0, at, wrong, certain(*wrong))
        sentence = f"draft conflicts with an earlier one at position {at + 1}"
        assert Error(ErrorCode.PROTOCOL, sentence, channel=0) == await bad.error(0)
        await still_works(bad, channel=1)

    run_beside_a_healthy_agent(misbehave)


def test_rows_in_coupled_end_their_stream() -> None:
    async def misbehave(bad: RawBoard) -> None:
        await bad.open(sampling=GREEDY)
        verdict = await bad.window()
        await bad.draft(0, bad.position_after(verdict), [1], certain(1))
        sentence = "a coupled draft came with 1 rows"
        assert Error(ErrorCode.PROTOCOL, sentence, channel=0) == await bad.error(0)
        await still_works(bad, channel=1)

    run_beside_a_healthy_agent(misbehave)


class GatedTokenizer(ScriptedTokenizer):
    """Takes as long over one prompt as a test wants."""

    def __init__(self) -> None:
        super().__init__(VOCAB_SIZE)
        self.gate = threading.Event()

    def encode_text(self, text: str) -> list[int]:
        if text == "slow":
            assert self.gate.wait(10)
        return super().encode_text(text)


@pytest.mark.parametrize("message", [Ready(0), draft(0, 0, [1])])
def test_drafting_before_the_stream_is_open_ends_it_for_good(message: Ready | Draft) -> None:
    async def misbehave(verifier: Verifier) -> None:
        tokenizer = GatedTokenizer()
        verifier.service.tokenizer = tokenizer
        async with raw_board(verifier, "bad") as bad:
            await bad.send(Open(0, 0, text="slow"))
            await bad.send(message)
            sentence = f"{type(message).__name__} is not allowed while opening"
            assert Error(ErrorCode.PROTOCOL, sentence, channel=0) == await bad.error(0)
            tokenizer.gate.set()
            await still_works(bad, channel=1)
            assert [1] == [m.channel for m in bad.received if isinstance(m, Opened)]

    asyncio.run(beside_a_healthy_agent(misbehave))


def test_a_stream_cancelled_before_it_is_open_ends_cancelled() -> None:
    async def misbehave(verifier: Verifier) -> None:
        tokenizer = GatedTokenizer()
        verifier.service.tokenizer = tokenizer
        async with raw_board(verifier, "bad") as bad:
            await bad.send(Open(0, 0, text="slow"))
            await bad.send(Cancel(0))
            tokenizer.gate.set()
            finish = (await bad.next_of(Verdict)).finish
            assert finish is not None
            assert "cancelled" == finish.reason
            await still_works(bad, channel=1)

    asyncio.run(beside_a_healthy_agent(misbehave))


# --- what changes nothing -------------------------------------------------------------------------


def test_repeated_drafts_change_nothing() -> None:
    expected_ids = likeliest_text("a prompt", 30)

    async def misbehave(bad: RawBoard) -> None:
        await bad.open(sampling=LIKELIEST, max_tokens=30)
        at = bad.position_after(await bad.window())
        right = expected_ids[at : at + 3]
        for _ in range(5):
            await bad.draft(0, at, right, certain(*right))
        await bad.draft(0, at, right[:2], certain(*right[:2]))
        while (verdict := await bad.next_of(Verdict)).num_accepted == 0:
            pass
        await bad.draft(0, at, right, certain(*right))
        await passes_until_the_end(bad, bad.position_after(verdict), base=0)
        assert expected_ids == await whole(bad, expected_ids)

    run_beside_a_healthy_agent(misbehave)


def test_drafts_of_an_older_path_are_dropped() -> None:
    expected_ids = likeliest_text("a prompt", 20)

    async def misbehave(bad: RawBoard) -> None:
        await bad.open(sampling=LIKELIEST, max_tokens=20)
        at = bad.position_after(await bad.window())
        wrong = (expected_ids[at] + 1) % VOCAB_SIZE
        await bad.draft(0, at, [wrong], certain(wrong))
        verdict = await bad.next_of(Verdict)
        assert (at, 0) == (verdict.position, verdict.num_accepted)
        await bad.draft(0, at + 1, [wrong], certain(wrong))
        await passes_until_the_end(bad, at + 1, base=at + 1)
        assert expected_ids == await whole(bad, expected_ids)

    run_beside_a_healthy_agent(misbehave)


def test_late_drafts_are_struck_off_and_their_rest_is_used() -> None:
    expected_ids = likeliest_text("a prompt", 40)

    async def misbehave(bad: RawBoard) -> None:
        # As if the board had begun before the target was here: greedy, so nobody waits for it.
        await bad.open(sampling=GREEDY, max_tokens=40)
        verdict = await bad.window()
        end = bad.position_after(verdict) + verdict.window
        await bad.draft(0, 0, expected_ids[:end])
        assert expected_ids == await committed(bad, 0, expected_ids)

    run_beside_a_healthy_agent(misbehave)


def test_drafts_for_a_stream_that_has_ended_are_ignored() -> None:
    async def misbehave(bad: RawBoard) -> None:
        await bad.open(sampling=GREEDY, max_tokens=3)
        await committed(bad, 0)
        await bad.draft(0, 3, [1, 2, 3])
        await bad.draft(98, 99, [1], b"nonsense")
        await bad.send(Ready(0))
        await bad.send(Cancel(0))
        await still_works(bad, channel=1)

    run_beside_a_healthy_agent(misbehave)


async def passes_until_the_end(bad: RawBoard, at: int, base: int) -> None:
    """Draft nothing more, and say so."""
    while True:
        await bad.draft(base, at, [])
        verdict = await bad.next_of(Verdict)
        if verdict.finish is not None:
            return
        at = bad.position_after(verdict)


async def whole(bad: RawBoard, drafted: list[int]) -> list[int]:
    """All tokens of the one stream of this board, which has ended."""
    token_ids: list[int] = []
    for message in bad.received:
        assert not isinstance(message, Error), message
        if isinstance(message, Verdict):
            token_ids = with_verdict(bad, token_ids, message, drafted)
    return token_ids


# --- what is refused ------------------------------------------------------------------------------

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
        Error(ErrorCode.REQUEST, "prompt of 256 tokens exceeds 255", 0, "prompt"),
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


# --- who does not read or floods ------------------------------------------------------------------


def small_buffers(address: Any) -> socket.socket:
    """A socket that takes little from a verifier that its owner does not read."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return made


@pytest.mark.parametrize(
    ("limit", "value", "sentence"),
    [
        ("MAX_QUEUED_MESSAGES", 16, "device bad is cut off: 16 messages wait to be read"),
        ("SEND_TIMEOUT_SECONDS", 0.1, "device bad is cut off: nothing was read for 0.1 s"),
    ],
)
def test_a_board_that_never_reads_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    limit: str,
    value: float,
    sentence: str,
) -> None:
    monkeypatch.setattr(device_connection, limit, value)

    async def misbehave(verifier: Verifier) -> None:
        prompt = pack_token_ids([1] * 4000)
        connector = aiohttp.TCPConnector(socket_factory=small_buffers)
        headers = {"Authorization": f"Bearer {verifier.tokens['bad']}"}
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.ws_connect(verifier.url + DEVICE_PATH, headers=headers) as bad_socket,
        ):
            bad = RawBoard(bad_socket, VOCAB_SIZE)
            await bad.send(hello_to(verifier))
            device = verifier.service.device("bad")
            await eventually(lambda: device.outbox is not None)
            channel = 0
            async with asyncio.timeout(30):
                while device.outbox is not None:
                    with_prompt = Open(channel, channel, prompt=prompt)
                    try:
                        await bad.send(with_prompt)
                        await bad.send(Cancel(channel))
                    except ConnectionError:
                        break
                    channel += 1
                    await asyncio.sleep(0)
            await eventually(lambda: device.outbox is None)

    asyncio.run(beside_a_healthy_agent(misbehave))
    assert [sentence] == [r.getMessage() for r in caplog.records if "cut off" in r.getMessage()]


def test_a_board_that_floods_delays_nobody_for_long() -> None:
    async def misbehave(bad: RawBoard) -> None:
        await bad.open(sampling=GREEDY, max_tokens=2)
        await committed(bad, 0)
        for _ in range(3000):
            await bad.send(Ready(0))
        await still_works(bad, channel=1)

    run_beside_a_healthy_agent(misbehave)


def test_a_board_may_leave_in_the_middle_of_a_stream() -> None:
    async def misbehave(bad: RawBoard) -> None:
        await bad.open(sampling=LIKELIEST)
        await bad.window()
        await bad.send(Goodbye())
        await bad.ended()

    run_beside_a_healthy_agent(misbehave)


def test_messages_may_be_longer_than_this_version_knows() -> None:
    async def misbehave(verifier: Verifier) -> None:
        async with raw_board(verifier, "bad", greets=False) as bad:
            fields = msgspec.to_builtins(hello_to(verifier), builtin_types=(bytes,))
            await bad.send_packed(msgpack.packb([*fields, "from", "the future"]))
            await still_works(bad, channel=1)

    asyncio.run(beside_a_healthy_agent(misbehave))
