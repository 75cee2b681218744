"""The verifier's event-loop side: between the devices with their streams and the round planner.

Connections call it with what boards say; the engine calls it with what rounds did. This module
must never touch a socket or a tensor.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass, replace
from functools import partial

import msgspec

from shared.errors import RemoteProtocolError, RequestRefused
from shared.protocol.fingerprint import fingerprint
from shared.protocol.messages import (
    MAX_63_BITS,
    MAX_MESSAGE_BYTES,
    Error,
    ErrorCode,
    Open,
    Resume,
    Verdict,
)
from shared.protocol.text import ByteAssembler
from shared.protocol.token_ids import pack_id_set, pack_token_ids, unpack_token_ids
from verifier.engine.device import Device, Outbox
from verifier.engine.engine import Engine, RoundReport
from verifier.engine.metrics import Metrics
from verifier.rounds.planner import RoundPlanner, StreamResult
from verifier.scheduling.acceptance_mode import automatic_mode
from verifier.streams.estimates import DeviceEstimates
from verifier.streams.kept_streams import EndedStream, KeptStream, KeptStreams, summarise
from verifier.streams.stream import Stream
from verifier.streams.stream_request import (
    ServiceLimits,
    opened_message,
    resumed_message,
    stream_request,
)
from verifier.target.target import TargetModel, Tokenizer

logger = logging.getLogger(__name__)

# An Open that takes a stream up again carries the ids of its prompt and of its output, 3 bytes each
# at most, beside stop strings and sampling.
MAX_STREAM_TOKENS = (MAX_MESSAGE_BYTES - 32 * 1024) // 3


@dataclass(frozen=True, slots=True)
class _Address:
    outbox: Outbox
    channel: int
    stream_id: int
    epoch: int  # of the connection


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
        self.fingerprint = fingerprint(tokenizer.token_bytes)
        self.packed_special_ids = pack_id_set(tokenizer.special_ids)
        self._seeds = seeds or random.SystemRandom()
        self._addresses: dict[int, _Address] = {}
        self._next_number = 1
        self._is_stopping = False
        self._engine = Engine(planner, target, self._deliver, self._report)

    async def run(self) -> None:
        """Run rounds until `stop`."""
        self._is_stopping = False
        await self._engine.run()

    def stop(self) -> None:
        """End `run` once the round in hand is settled and its verdicts are out."""
        self._is_stopping = True
        for device in self.devices.values():
            self.discard_kept(device)
        self._engine.stop()

    def device(self, name: str) -> Device:
        """The device's memory; made at its first connection."""
        if name not in self.devices:
            kept = KeptStreams(self.limits.max_streams_per_device)
            self.devices[name] = Device(name, DeviceEstimates(), kept)
        return self.devices[name]

    async def open_stream(
        self, device: Device, outbox: Outbox, message: Open | Resume
    ) -> Stream | None:
        """Take up a kept stream, or tokenize, check and enqueue a new one; None: it is over.

        Answers `Opened` before the first verdict.

        Raises:
            RequestRefused: the prompt or a limit does not fit.
            RemoteProtocolError: token ids in the message are malformed, or nothing is kept of it.
        """
        kept = device.kept.find(message.stream_id, device.epoch)
        if isinstance(message, Resume):
            if kept is None or message.position > len(kept.output_ids):
                raise RemoteProtocolError(
                    "this verifier does not have the stream any more", ErrorCode.UNKNOWN_STREAM
                )
            return self._take_up(device, outbox, message, message.position)
        committed = self._token_ids(message.committed)
        if kept is not None:
            if kept.goes_on_from(self._token_ids(message.prompt), committed):
                return self._take_up(device, outbox, message, len(committed))
            self._discard_parked(device.kept.discard(message.stream_id))
        return await self._open_new(device, outbox, message, committed)

    async def _open_new(
        self, device: Device, outbox: Outbox, message: Open, committed: tuple[int, ...]
    ) -> Stream | None:
        request = stream_request(
            message,
            await self._prompt_ids(device, message),
            limits=self.limits,
            seed=self._seeds.randint(0, MAX_63_BITS),
            end_ids=self.tokenizer.end_ids,
            draft_context_tokens=device.draft_context_tokens,
            automatic_mode=automatic_mode(device.estimates, self.planner.seconds_of_lone_round),
        )
        stream = Stream(
            number=self._next_number,
            device=device.name,
            request=request,
            text=ByteAssembler(
                self.tokenizer.token_bytes, self.tokenizer.special_ids, request.stop
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
            address = _Address(outbox, message.channel, message.stream_id, device.epoch)
            self._addresses[stream.number] = address
            self._engine.wake()
        outbox.send(opened_message(message.channel, request))
        if stream.finish is not None:
            outbox.send(verdict_of(message.channel, StreamResult.ended(stream)))
            outbox.stream_ended(message.channel)
            return None
        return stream

    def wake(self) -> None:
        """Something arrived that may let a round start."""
        self._engine.wake()

    def cancel(self, stream: Stream) -> None:
        """End a stream with a last verdict, whose finish reason is `cancelled`."""
        if stream.finish is None:
            result = self.planner.cancel(stream)
            if result is not None:
                self._deliver([result])

    def discard(self, stream: Stream) -> None:
        """End a stream without a last verdict: it broke the protocol, or its board has left."""
        if self._addresses.pop(stream.number, None) is not None:
            self.planner.discard(stream)
            self._engine.wake()

    def park(self, stream: Stream) -> None:
        """Keep a stream whose connection is gone, until its device comes back for it."""
        if self._is_stopping or not self.limits.grace_seconds or stream.is_cancelled:
            self.discard(stream)
            return
        address = self._addresses.pop(stream.number, None)
        if address is not None:
            self.planner.park(stream)
            self._keep(self.device(stream.device), address, stream)
            self._engine.wake()

    def discard_kept(self, device: Device) -> None:
        """Keep nothing more for a device: it has left on purpose."""
        self._discard_parked(device.kept.discard_all())
        if device.expiry is not None:
            device.expiry.cancel()
            device.expiry = None

    async def _prompt_ids(self, device: Device, message: Open) -> tuple[int, ...]:
        if message.prompt:
            return self._token_ids(message.prompt)
        if message.messages:
            turns = [(turn.role, turn.content) for turn in message.messages]
            encode_chat = partial(self.tokenizer.encode_chat, options=message.template)
            return tuple(await device.in_thread(encode_chat, turns))
        return tuple(await device.in_thread(self.tokenizer.encode_text, message.text))

    def _token_ids(self, packed: bytes) -> tuple[int, ...]:
        return tuple(unpack_token_ids(packed, self.target.vocab_size).tolist())

    def _take_up(
        self, device: Device, outbox: Outbox, message: Open | Resume, position: int
    ) -> Stream | None:
        """Go on with the kept stream that the board means; it has the tokens before `position`."""
        kept = device.kept.find(message.stream_id, device.epoch)
        assert kept is not None, "it was found just now"
        device.kept.hand_over(kept)
        self.metrics.resumed()
        address = _Address(outbox, message.channel, message.stream_id, device.epoch)
        tell = resumed_message if isinstance(message, Resume) else opened_message
        request = replace(kept.content.request, prompt_ids=kept.prompt_ids)
        outbox.send(tell(message.channel, request, kept.content.cached_prefix_tokens or 0))
        missing, finish = kept.output_ids[position:], kept.content.finish
        if missing or finish is not None:
            tokens = pack_token_ids(missing)
            outbox.send(Verdict(message.channel, position, 0, tokens, finish=finish))
        stream = kept.content
        if not isinstance(stream, Stream) or finish is not None:
            content = summarise(stream) if isinstance(stream, Stream) else stream
            self._keep(device, address, content)  # the answer may be lost once more
            outbox.stream_ended(message.channel)
            return None
        stream.attach(position, device.draft_context_tokens)
        self._addresses[stream.number] = address
        self.planner.unpark(stream)
        self._engine.wake()
        return stream

    def _keep(self, device: Device, address: _Address, content: Stream | EndedStream) -> None:
        """Keep a stream for its device to come back to it."""
        now = asyncio.get_running_loop().time()
        expires_at = now + self.limits.grace_seconds
        kept = KeptStream(address.stream_id, address.epoch, expires_at, content)
        self._discard_parked(device.kept.keep(kept))
        if device.expiry is None:
            self._await_expiry(device)

    def _expire(self, device: Device) -> None:
        self._discard_parked(device.kept.discard_expired(asyncio.get_running_loop().time()))
        self._await_expiry(device)

    def _await_expiry(self, device: Device) -> None:
        """Discard the next kept stream when its time is over."""
        loop, at = asyncio.get_running_loop(), device.kept.next_expiry
        device.expiry = None if at is None else loop.call_at(at, self._expire, device)

    def _discard_parked(self, streams: list[Stream]) -> None:
        for stream in streams:
            self.planner.discard(stream)
            self._engine.wake()

    def _deliver(self, results: list[StreamResult]) -> None:
        for result in results:
            self.metrics.observe_result(result)
            stream = result.stream
            address = self._addresses.get(stream.number)
            if address is None:
                if result.failure is not None:
                    self.device(stream.device).kept.discard_stream(stream)
                continue
            if result.failure is not None:
                address.outbox.send(Error(ErrorCode.MODEL, result.failure, address.channel))
            else:
                address.outbox.send(verdict_of(address.channel, result))
            if stream.finish is not None:
                del self._addresses[stream.number]
                address.outbox.stream_ended(address.channel)
                if result.failure is None and stream.finish.reason != "cancelled":
                    self._keep_end(stream, address)

    def _keep_end(self, stream: Stream, address: _Address) -> None:
        """Keep an answer: its last verdict may never reach the board."""
        if self.limits.grace_seconds and not self._is_stopping:
            self._keep(self.device(stream.device), address, summarise(stream))

    def _report(self, report: RoundReport) -> None:
        self.metrics.observe_round(report)


def verdict_of(channel: int, result: StreamResult) -> Verdict:
    """What a board is told about its stream after a round."""
    stream, settled = result.stream, result.settled
    is_open = stream.finish is None
    # Else the board sends as it drafts, because no round waits.
    is_chunked = stream.request.mode == "rejection" or stream.awaited_seconds > 0
    return Verdict(
        channel=channel,
        position=settled.position,
        num_accepted=settled.num_accepted,
        tokens=pack_token_ids(settled.own_token_ids),
        window=stream.window if is_open else 0,
        draft_length=stream.draft_length if is_open and is_chunked else 0,
        finish=stream.finish,
        cached_prefix_tokens=(stream.cached_prefix_tokens or 0) if settled.position == 0 else 0,
    )
