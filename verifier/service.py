"""The verifier's event-loop side: between the devices with their streams and the round planner.

Connections call it with what boards say; the engine calls it with what rounds did.  This module
must never touch a socket or a tensor.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass
from typing import Protocol

import msgspec

from shared.errors import RequestRefused
from shared.fingerprint import fingerprint
from shared.messages import (
    MAX_63_BITS,
    MAX_MESSAGE_BYTES,
    AcceptanceMode,
    Error,
    ErrorCode,
    Open,
    Opened,
    Verdict,
    VerifierMessage,
)
from shared.text import TextAssembler
from shared.token_ids import pack_token_ids, unpack_token_ids
from verifier.engine import Engine, RoundReport
from verifier.estimators import DeviceEstimates
from verifier.metrics import Metrics
from verifier.rounds import RoundPlanner, StreamResult
from verifier.streams import Stream, StreamRequest
from verifier.target import TargetModel, Tokenizer

logger = logging.getLogger(__name__)

# An Open that takes a stream up again carries the ids of its prompt and of its output, 3 bytes each
# at most, beside stop strings and sampling.
MAX_STREAM_TOKENS = (MAX_MESSAGE_BYTES - 32 * 1024) // 3


class ServiceLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one device may ask for."""

    context_tokens: int
    max_prompt_tokens: int
    max_tokens: int
    max_streams_per_device: int


class Outbox(Protocol):
    """Where a stream's messages go: the connection that it lives on."""

    def send(self, message: VerifierMessage) -> None: ...

    def stream_ended(self, channel: int) -> None: ...

    def replace(self) -> None: ...


@dataclass(slots=True)
class Device:
    """What the verifier remembers of a board between its connections."""

    name: str
    estimates: DeviceEstimates
    epoch: int = 0
    outbox: Outbox | None = None
    draft_context_tokens: int = 0


@dataclass(frozen=True, slots=True)
class _Address:
    outbox: Outbox
    channel: int


class VerifierService:
    """Opens, feeds and ends streams; routes verdicts to their connections."""

    def __init__(
        self,
        planner: RoundPlanner,
        target: TargetModel,
        tokenizer: Tokenizer,
        limits: ServiceLimits,
        metrics: Metrics,
        seeds: random.Random | None = None,
    ) -> None:
        self.planner = planner
        self.target = target
        self.tokenizer = tokenizer
        self.limits = msgspec.structs.replace(
            limits, context_tokens=min(limits.context_tokens, MAX_STREAM_TOKENS)
        )
        self.metrics = metrics
        self.devices: dict[str, Device] = {}
        self.fingerprint = fingerprint(tokenizer.token_bytes, tokenizer.special_ids)
        self._seeds = seeds or random.SystemRandom()
        self._addresses: dict[int, _Address] = {}
        self._next_number = 1
        self._engine = Engine(planner, target, self._deliver, self._report)

    async def run(self) -> None:
        """Run rounds until `stop`."""
        await self._engine.run()

    def stop(self) -> None:
        """End `run` once the round in hand is settled and its verdicts are out."""
        self._engine.stop()

    def device(self, name: str) -> Device:
        """The device's memory; made at its first connection."""
        if name not in self.devices:
            self.devices[name] = Device(name, DeviceEstimates())
        return self.devices[name]

    async def open_stream(self, device: Device, outbox: Outbox, message: Open) -> Stream:
        """Tokenize, check and enqueue a stream; answers `Opened` before its first verdict.

        Raises:
            RequestRefused: the prompt or a limit does not fit.
            RemoteProtocolError: token ids in the message are malformed.
        """
        prompt_ids = await self._prompt_ids(message)
        committed = tuple(unpack_token_ids(message.committed, self.target.vocab_size).tolist())
        request = self._request(device, message, prompt_ids)
        stream = Stream(
            number=self._next_number,
            device=device.name,
            request=request,
            text=TextAssembler(
                self.tokenizer.token_bytes, self.tokenizer.special_ids, message.stop
            ),
            device_estimates=device.estimates,
            estimates=device.estimates.open_stream(),
        )
        self._next_number += 1
        stream.take_up_again(committed)
        if stream.position < len(committed):
            raise RequestRefused(
                f"{len(committed)} committed tokens go beyond the end of the stream "
                f"at {stream.position}",
                "committed",
            )
        if stream.finish is None:
            self.planner.add(stream)
            self._addresses[stream.number] = _Address(outbox, message.channel)
            self._engine.wake()
        outbox.send(
            Opened(
                channel=message.channel,
                prompt=pack_token_ids(prompt_ids),
                seed=request.seed,
                acceptance_mode=request.mode,
            )
        )
        if stream.finish is not None:
            outbox.send(verdict_of(message.channel, StreamResult.ended(stream)))
            outbox.stream_ended(message.channel)
        return stream

    def wake(self) -> None:
        """Something arrived that may let a round start."""
        self._engine.wake()

    def cancel(self, stream: Stream) -> None:
        """End a stream with finish reason `cancelled`."""
        if stream.finish is None:
            result = self.planner.cancel(stream)
            if result is not None:
                self._deliver([result])

    def drop(self, stream: Stream) -> None:
        """Forget a stream whose connection is gone or that broke the protocol."""
        if self._addresses.pop(stream.number, None) is not None:
            self.planner.drop(stream)
            self._engine.wake()

    # --- private -------------------------------------------------------------------------------

    async def _prompt_ids(self, message: Open) -> tuple[int, ...]:
        if message.prompt:
            return tuple(unpack_token_ids(message.prompt, self.target.vocab_size).tolist())
        if message.messages:
            turns = [(turn.role, turn.content) for turn in message.messages]
            return tuple(await asyncio.to_thread(self.tokenizer.encode_chat, turns))
        return tuple(await asyncio.to_thread(self.tokenizer.encode_text, message.text))

    def _request(self, device: Device, message: Open, prompt_ids: tuple[int, ...]) -> StreamRequest:
        limits = self.limits
        field = "messages" if message.messages else "prompt"
        if not prompt_ids:
            raise RequestRefused("the prompt is empty", field)
        longest_prompt = min(limits.max_prompt_tokens, limits.context_tokens - 1)
        if len(prompt_ids) > longest_prompt:
            raise RequestRefused(
                f"prompt of {len(prompt_ids)} tokens exceeds {longest_prompt}", field
            )
        room = limits.context_tokens - len(prompt_ids)
        wanted = min(message.max_tokens or limits.max_tokens, limits.max_tokens)
        seed = message.seed if message.seed is not None else self._seeds.randint(0, MAX_63_BITS)
        return StreamRequest(
            prompt_ids=prompt_ids,
            sampling=message.sampling,
            mode=_acceptance_mode(message),
            seed=seed,
            max_output_tokens=min(wanted, room),
            ends_at_context=room < wanted,
            end_ids=self.tokenizer.end_ids,
            draft_length=message.draft_length,
            draft_context_tokens=device.draft_context_tokens,
        )

    def _deliver(self, results: list[StreamResult]) -> None:
        for result in results:
            stream = result.stream
            address = self._addresses.get(stream.number)
            if address is None:
                continue
            self.metrics.observe_result(result)
            if result.failure is not None:
                address.outbox.send(Error(ErrorCode.MODEL, result.failure, address.channel))
            else:
                address.outbox.send(verdict_of(address.channel, result))
            if stream.finish is not None:
                del self._addresses[stream.number]
                address.outbox.stream_ended(address.channel)

    def _report(self, report: RoundReport) -> None:
        self.metrics.observe_round(report)


def verdict_of(channel: int, result: StreamResult) -> Verdict:
    """What a board is told about its stream after a round."""
    stream, settled = result.stream, result.settled
    is_open = stream.finish is None
    is_chunked = stream.request.mode == "rejection"  # else the board sends as it drafts
    return Verdict(
        channel=channel,
        position=settled.position,
        num_accepted=settled.num_accepted,
        tokens=pack_token_ids(settled.token_ids),
        window=stream.window if is_open else 0,
        draft_length=stream.draft_length if is_open and is_chunked else 0,
        finish=stream.finish,
    )


def _acceptance_mode(message: Open) -> AcceptanceMode:
    """Greedy needs no rows; a seed asks for text that does not depend on the board."""
    if message.sampling.is_greedy:
        return "coupled"
    if message.acceptance_mode is not None:
        return message.acceptance_mode
    return "coupled" if message.seed is not None else "rejection"
