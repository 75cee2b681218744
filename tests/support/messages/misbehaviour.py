"""A device that misbehaves beside a healthy one, whose text must stay exact."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import numpy as np

from edge_agent.generation.generation import GenerationRequest
from shared.protocol.draft_packing import pack_rows
from shared.protocol.messages import (
    Draft,
    Error,
    Verdict,
)
from shared.protocol.token_ids import pack_token_ids, unpack_token_ids
from shared.speculation.sampling import SamplingParameters
from shared.speculation.sparse_row import SparseRow
from tests.support.ends.loopback import (
    Verifier,
    chat,
    generate,
    running_agent,
    running_verifier,
)
from tests.support.ends.raw_board import RawBoard, raw_board
from tests.support.ends.scripted import TARGET, VOCAB_SIZE, board, scripted_service, target_text
from tests.support.ends.waiting import eventually
from verifier.engine.service import VerifierService
from verifier.server.device_limits import DeviceLimits
from verifier.target.round import Round
from verifier.target.scripted_tokenizer import ScriptedTokenizer

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
    misbehave: Callable[[Verifier], Coroutine[Any, Any, None]],
    *,
    device_limits: DeviceLimits | None = None,
    devices: Sequence[str] = ("bad", "good"),
    **service_options: Any,
) -> None:
    """Let a device `bad` misbehave while another generates.

    Its texts must be exact, and every round that begins while it has a stream must hold a part of
    it: whatever the other does, it waits for nobody.
    """
    service = scripted_service(delay_seconds=lambda _: 0.001, **service_options)
    left_out = streams_left_out(service, "good")
    async with (
        running_verifier(service, devices, device_limits=device_limits) as verifier,
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
    assert [] == left_out


def streams_left_out(service: VerifierService, device: str) -> list[int]:
    """The numbers of the device's streams that had a place but no part of a round, as it grows."""
    planner = service.planner
    start_round = planner.start_round
    left_out: list[int] = []

    def watched(now: float) -> Round | None:
        round_ = start_round(now)
        if round_ is not None:
            served = {item.stream for item in round_.items}
            open_streams = [s for s in planner.streams.values() if s.device == device]
            left_out.extend(s.number for s in open_streams if s.number not in served)
        return round_

    planner.start_round = watched  # type: ignore[method-assign]
    return left_out


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


def draft(base: int, position: int, token_ids: list[int], rows: bytes = b"") -> Draft:
    return Draft(0, base, position - base, pack_token_ids(token_ids), rows=rows)


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


class GatedTokenizer(ScriptedTokenizer):
    """Takes as long over one prompt as a test wants."""

    def __init__(self) -> None:
        super().__init__(VOCAB_SIZE)
        self.gate = threading.Event()

    def encode_text(self, text: str) -> list[int]:
        if text == "slow":
            assert self.gate.wait(10)
        return super().encode_text(text)
