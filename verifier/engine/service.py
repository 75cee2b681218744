"""The verifier's event-loop side: between the devices with their streams and the round planner.

Connections call it with what boards say; the engine calls it with what rounds did. This module
must never touch a socket or a tensor.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace

from shared.errors import RemoteProtocolError
from shared.protocol.fingerprint import fingerprint
from shared.protocol.messages import PART_BYTES, ErrorCode, Open, Opened, OpenPart, Resume
from shared.protocol.prompt_parts import cut_opened
from shared.protocol.token_ids import pack_id_set
from shared.speculation.model_defaults import PLAIN_DEFAULTS, ModelDefaults
from verifier.engine.device import Device, Outbox
from verifier.engine.engine import Engine
from verifier.engine.keeping import Keeping
from verifier.engine.many_workers import ManyWorkers
from verifier.engine.metrics import Metrics
from verifier.engine.new_streams import NewStreams, commit_again
from verifier.engine.round_precedence import RoundPrecedence
from verifier.engine.verdicts import messages_of, missed_messages, verdict_of
from verifier.grammar.grammars import Grammars
from verifier.rounds.planner import RoundPlanner, StreamResult
from verifier.scheduling.acceptance_mode import automatic_mode
from verifier.streams.estimates import DeviceEstimates, GoodputEstimate
from verifier.streams.goodput_of_workers import GoodputOfWorkers
from verifier.streams.kept_streams import EndedStream, KeptStreams
from verifier.streams.stream import Stream
from verifier.streams.stream_request import ServiceLimits, opened_message, resumed_message
from verifier.target.target import TargetModel, Tokenizer

logger = logging.getLogger(__name__)


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
        model_defaults: ModelDefaults = PLAIN_DEFAULTS,
        workers: ManyWorkers | None = None,
    ) -> None:
        """`model_defaults` hold where a request is silent.

        Of several `workers` planner and target are those of one; what is set is equal in all.
        """
        self.planner = planner
        self.workers = workers
        self._home: RoundPlanner | ManyWorkers = workers or planner
        self.target = target
        self.tokenizer = tokenizer
        self.limits = limits
        self.metrics = metrics
        self.devices: dict[str, Device] = {}
        self.delivered: Callable[[], None] = lambda: None  # all verdicts of a round were put
        self.fingerprint = fingerprint(tokenizer.token_bytes)
        self.packed_special_ids = pack_id_set(tokenizer.special_ids)
        self.model_defaults = model_defaults
        self.grammars = Grammars(tokenizer, target.vocab_size)
        self._new_streams = NewStreams(
            target.vocab_size,
            lambda device: automatic_mode(device.estimates, self._home.seconds_of_lone_round),
            seeds or random.SystemRandom(),
            (self.grammars, self.wake),
        )
        self._addresses: dict[int, _Address] = {}
        self._keeping = Keeping(lambda: self.limits.grace_seconds, self._discard_parked)
        self._is_stopping = False
        self._engine: Engine | ManyWorkers
        if workers is None:
            self._engine = Engine(planner, target, self._deliver, metrics.observe_round)
        else:
            self._engine = workers
            workers.begin(self._deliver, metrics.observe_round)

    @property
    def planners(self) -> tuple[RoundPlanner, ...]:
        """One for each worker."""
        return (self.planner,) if self.workers is None else self.workers.planners

    @property
    def round_started_at(self) -> float | None:
        """When the round in hand began, by time.monotonic(); None: the engine waits for work."""
        return self._engine.round_started_at

    @property
    def precedence(self) -> RoundPrecedence:
        """What messages give way to."""
        return self._engine.precedence

    async def run(self) -> None:
        """Run rounds until `stop`."""
        self._is_stopping = False
        with closing(self.grammars):
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
            goodput = GoodputEstimate() if self.workers is None else GoodputOfWorkers()
            self.devices[name] = Device(name, DeviceEstimates(goodput=goodput), kept)
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
        committed = self._new_streams.token_ids(message.committed)
        if kept is not None:
            if kept.goes_on_from(self._new_streams.token_ids(message.prompt), committed):
                return self._take_up(device, outbox, message, len(committed))
            self._discard_parked(device.kept.discard(message.stream_id))
        return await self._open_new(device, outbox, message, committed)

    async def _open_new(
        self, device: Device, outbox: Outbox, message: Open, committed: tuple[int, ...]
    ) -> Stream | None:
        stream = await self._new_streams.make_from(
            device, message, committed, self.tokenizer, self.limits, self.model_defaults
        )
        if stream.finish is None:
            self._add(stream, device, outbox, message)
        self._tell_opened(outbox, opened_message(message, stream.request))
        if stream.finish is not None:
            outbox.send(verdict_of(message.channel, StreamResult.ended(stream)))
            outbox.stream_ended(message.channel)
            return None
        return stream

    def begin_stream(self, device: Device, outbox: Outbox, message: Open) -> Stream | None:
        """Let the target read the ids with which an Open that goes on begins.

        None where it must be whole first: a text, whose last tokens and template hang on what
        follows, an Open of a stream that may be kept, and one that a thread reads: with stop
        strings, a grammar or many committed tokens. Go on with `extend_stream`, then
        `complete_stream`; or `discard`.

        Raises:
            RequestRefused: the prompt or what is committed does not fit, as `open_stream` says it.
            RemoteProtocolError: token ids in the message are malformed.
        """
        is_kept = device.kept.find(message.stream_id, device.epoch) is not None
        is_long = len(message.committed) > PART_BYTES
        if not message.prompt or message.stop or message.grammar or is_kept or is_long:
            return None
        prompt_ids = self._new_streams.token_ids(message.prompt)
        stream = self._new_streams.make_arriving(
            device, message, prompt_ids, self.tokenizer, self.limits, self.model_defaults
        )
        self._commit_again(stream, message.committed)
        self._add(stream, device, outbox, message)
        return stream

    def extend_stream(self, stream: Stream, part: OpenPart) -> None:
        """More ids came, of a prompt or of what was committed behind it.

        Raises:
            RemoteProtocolError: they are malformed, more than was said, or too many at once.
            RequestRefused: more was committed than the stream can have.
        """
        if part.prompt:
            stream.add_prompt(self._new_streams.token_ids(part.prompt))
        self._commit_again(stream, part.committed)
        self._engine.wake()

    def _commit_again(self, stream: Stream, packed: bytes) -> None:
        """With each part its own: all of them at once would hold the event loop up."""
        if not packed:
            return
        if len(packed) > PART_BYTES:
            raise RemoteProtocolError(f"{len(packed)} bytes of ids in a part exceed {PART_BYTES}")
        if stream.num_missing_tokens:
            raise RemoteProtocolError(f"the prompt lacks {stream.num_missing_tokens} tokens")
        commit_again(stream, self._new_streams.token_ids(packed))

    def complete_stream(self, stream: Stream, outbox: Outbox, message: Open) -> None:
        """All parts of an Open are here, and their ids are the stream's.

        Raises:
            RemoteProtocolError: the prompt is shorter than was said.
        """
        if stream.num_missing_tokens:
            raise RemoteProtocolError(f"the prompt lacks {stream.num_missing_tokens} tokens")
        stream.is_arriving = False
        self._tell_opened(outbox, opened_message(message, stream.request))
        self._engine.wake()
        if stream.finish is not None:  # it had ended with what was committed
            self.discard(stream)
            outbox.send(verdict_of(message.channel, StreamResult.ended(stream)))
            outbox.stream_ended(message.channel)

    def _add(self, stream: Stream, device: Device, outbox: Outbox, message: Open) -> None:
        stream.opened_at = time.monotonic()
        self._home.add(stream)
        address = _Address(outbox, message.channel, message.stream_id, device.epoch)
        self._addresses[stream.number] = address
        self._engine.wake()

    def _tell_opened(self, outbox: Outbox, opened: Opened) -> None:
        """The prompt's rest comes in parts, behind what other streams are told."""
        first, *rest = cut_opened(opened)
        outbox.send(first)
        if opened.num_prompt_logprobs is not None:  # which are told behind it
            for part in rest:
                outbox.send(part)
        elif rest:
            outbox.send_parts(rest)

    def wake(self) -> None:
        """Something arrived that may let a round start."""
        self._engine.wake()

    def cancel(self, stream: Stream) -> None:
        """End a stream with a last verdict, whose finish reason is `cancelled`."""
        if stream.finish is None:
            result = self._home.cancel(stream)
            if result is not None:
                self._deliver([result])

    def discard(self, stream: Stream) -> None:
        """End a stream without a last verdict: it broke the protocol, or its board has left."""
        if self._addresses.pop(stream.number, None) is not None:
            self._home.discard(stream)
            self._engine.wake()

    def park(self, stream: Stream) -> None:
        """Keep a stream whose connection is gone, until its device comes back for it."""
        if self._is_stopping or not self.limits.grace_seconds or stream.is_cancelled:
            self.discard(stream)
            return
        address = self._addresses.pop(stream.number, None)
        if address is not None:
            self._home.park(stream)
            self._keep(self.device(stream.device), address, stream)
            self._engine.wake()

    def discard_kept(self, device: Device) -> None:
        """Keep nothing more for a device: it has left on purpose."""
        self._keeping.discard_all(device)

    def _take_up(
        self, device: Device, outbox: Outbox, message: Open | Resume, position: int
    ) -> Stream | None:
        """Go on with the kept stream that the board means; it has the tokens before `position`."""
        kept = device.kept.find(message.stream_id, device.epoch)
        assert kept is not None, "it was found just now"
        device.kept.hand_over(kept)
        self.metrics.resumed()
        address = _Address(outbox, message.channel, message.stream_id, device.epoch)
        request = replace(kept.content.request, prompt_ids=kept.prompt_ids)
        num_cached, finish = kept.content.cached_prefix_tokens or 0, kept.content.finish
        if isinstance(message, Resume):
            self._tell_opened(outbox, resumed_message(message, request, num_cached))
        else:
            self._tell_opened(outbox, opened_message(message, request, num_cached))
        told = position, finish, kept.output_logprobs, kept.prompt_logprobs
        for missed in missed_messages(message.channel, kept.output_ids, *told):
            outbox.send(missed)
        stream = kept.content
        if not isinstance(stream, Stream) or finish is not None:
            self._keep(device, address, stream)  # the answer may be lost once more
            outbox.stream_ended(message.channel)
            return None
        stream.attach(position, device.draft_context_tokens)
        self._addresses[stream.number] = address
        self._home.unpark(stream)
        self._engine.wake()
        return stream

    def _keep(self, device: Device, address: _Address, content: Stream | EndedStream) -> None:
        """Keep a stream for its device to come back to it."""
        self._keeping.keep(device, address.stream_id, address.epoch, content)

    def _discard_parked(self, streams: list[Stream]) -> None:
        for stream in streams:
            self._home.discard(stream)
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
            for message in messages_of(address.channel, result):
                address.outbox.send(message)
            if stream.finish is not None:
                del self._addresses[stream.number]
                address.outbox.stream_ended(address.channel)
                if result.failure is None and stream.finish.reason != "cancelled":
                    self._keep_end(stream, address)
        self.delivered()

    def _keep_end(self, stream: Stream, address: _Address) -> None:
        """Keep an answer: its last verdict may never reach the board."""
        if self.limits.grace_seconds and not self._is_stopping:
            self._keep(self.device(stream.device), address, stream)
