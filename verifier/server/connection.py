"""One connection of one device: greets it, reads what it sends, writes the answers.

Used once and thrown away. Whatever is wrong with a message ends its stream or this connection,
never anything else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from shared.daemon.log_output.fields import log_fields
from shared.daemon.peer_text import one_line
from shared.errors import RemoteProtocolError
from shared.protocol.codec import encode
from shared.protocol.messages import (
    MAX_SENTENCE_LENGTH,
    PROTOCOL_VERSION,
    AgentMessage,
    Cancel,
    Draft,
    DraftHeld,
    Error,
    ErrorCode,
    GoingAway,
    Goodbye,
    Hello,
    Open,
    OpenPart,
    Ready,
    Resume,
    Status,
    VerifierMessage,
    Welcome,
)
from shared.protocol.session import (
    VERIFIER_CONNECTION,
    ConnectionState,
    next_state,
)
from verifier.doors.board_socket import BoardSocket, Frame, Overrun
from verifier.engine.device import Device
from verifier.engine.device_terms import PAUSED
from verifier.engine.service import VerifierService
from verifier.server.channels import Channels
from verifier.server.device_limits import DeviceUsage
from verifier.server.greeting import ConnectionRefused, check_hello
from verifier.server.incoming import Incoming
from verifier.server.loop_shares import LoopShares
from verifier.server.refusals import Refusals

logger = logging.getLogger(__name__)

# A connection that has not said Hello by then makes room for others.
HELLO_TIMEOUT_SECONDS = 10.0
# Two agents with one token; the one that is connected stays.
TOKEN_IN_USE = (
    "another agent is connected with this device's token; each board needs one of its own"
)
# How long a board may take to read its last messages and to answer the close.
FAREWELL_SECONDS = 2.0


class DeviceConnection:
    """Drives one websocket; `run` returns when it is over. Implements `Listener`."""

    def __init__(
        self,
        socket: BoardSocket,
        device: Device,
        service: VerifierService,
        usage: DeviceUsage,
        shares: LoopShares,
        drafts_changed: Callable[[Device], None] = lambda device: None,
        *,
        frame_seconds: float,
        keeps_texts: bool = False,
    ) -> None:
        """`drafts_changed`: called when the board has said who it is, and which drafts it holds.

        `frame_seconds`: what a frame costs the event loop before it comes to `take`.
        """
        self._drafts_changed, self._keeps_texts = drafts_changed, keeps_texts
        self._socket = socket
        self._device = device
        self._service = service
        self._usage = usage
        self._state = ConnectionState.GREETING
        self._refusals = Refusals(service.metrics, usage)
        self._channels = Channels(device, self, service, usage, self._refusals)
        self._incoming = Incoming(
            device.name,
            usage,
            shares,
            lambda num_bytes: service.metrics.received(device.name, num_bytes),
            frame_seconds,
        )

    def send(self, message: VerifierMessage) -> None:
        """Queue a message; a board that does not read is cut off."""
        if self.is_over:
            return
        try:
            self._socket.put(encode(message))
        except Overrun as overrun:
            self._cut_off(str(overrun))

    def send_parts(self, messages: Sequence[VerifierMessage]) -> None:
        """Queue the parts of a long message, to be sent between others."""
        if self.is_over:
            return
        try:
            self._socket.put_parts([encode(message) for message in messages])
        except Overrun as overrun:
            self._cut_off(str(overrun))

    def receive_bytes(self, num_bytes: int) -> None:
        """So many bytes came; a board that sends too many is let go."""
        try:
            self._incoming.count_bytes(num_bytes)
        except RemoteProtocolError as error:
            self._channels.discard_all()
            self._reject(Error(error.code, str(error)))
            self.close()

    def stream_ended(self, channel: int) -> None:
        """The last message of a channel was queued; later messages for it are ignored."""
        self._channels.end(channel)

    def going_away(self, retry_after_seconds: float) -> None:
        """Tell the board that the verifier shuts down."""
        if self._state is ConnectionState.OPEN:
            self._state = ConnectionState.LEAVING
            self.send(GoingAway(retry_after_seconds))

    def replace(self) -> None:
        """End this connection because the device made a newer one; that may take its streams."""
        self._channels.park_all()
        self.send(Error(ErrorCode.REPLACED, "a newer connection of this device took over"))
        self.close()

    def revoke(self) -> None:
        """End this connection and its streams because the device's token is not known any more."""
        self._channels.discard_all()
        self._reject(Error(ErrorCode.REVOKED, "this device's token was revoked"))
        self.close()

    def close(self) -> None:
        """Write what is queued and end; `run` returns soon after."""
        self._incoming.stop()
        self._state = ConnectionState.CLOSED
        self._socket.end()

    @property
    def is_over(self) -> bool:
        """Whether nothing that still comes counts."""
        return self._state is ConnectionState.CLOSED

    def seconds_to_wait(self) -> float:
        """How long the board's next frame has to wait, for its device said more than others."""
        return self._incoming.seconds_to_wait()

    def take(self, frame: Frame, content: bytes) -> None:
        """Do what a frame of the board asks for, at once.

        Raises:
            RemoteProtocolError: it breaks the protocol or a limit.
            ConnectionRefused: the board may not come in.
        """
        message = self._incoming.take(frame, content)
        if message is not None:
            self._receive(message)
        self._incoming.done()

    async def run(self) -> None:
        """Read until the board leaves, breaks the protocol or is cut off."""
        with log_fields(device=self._device.name):
            await self._run()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        greeting = loop.call_later(HELLO_TIMEOUT_SECONDS, self._miss_hello)
        try:
            await self._socket.read(self)
        except Overrun as overrun:
            self._cut_off(str(overrun))
        except ConnectionRefused as refusal:
            self._reject(refusal.error)
        except RemoteProtocolError as error:
            self._channels.discard_all()
            self._reject(Error(error.code, str(error)[:MAX_SENTENCE_LENGTH]))
        finally:
            greeting.cancel()
            self._channels.park_all()
            if self._device.outbox is self:
                self._device.outbox = None
                logger.info("device %s disconnected", self._device.name)
            self.close()
            await self._socket.farewell(FAREWELL_SECONDS)

    def _miss_hello(self) -> None:
        if self._state is ConnectionState.GREETING:
            sentence = f"no Hello came within {HELLO_TIMEOUT_SECONDS:g} s"
            self._reject(Error(ErrorCode.LIMIT, sentence))
            self.close()

    def _reject(self, error: Error) -> None:
        self._refusals.count(error.code)
        self._refusals.warn("device %s: %s", self._device.name, error.sentence)
        if error.code == ErrorCode.LIMIT:
            self._socket.deafen()  # whatever else it sends costs no other device anything
        self.send(error)

    def _cut_off(self, reason: str) -> None:
        """End now, whatever the board has not read; the reader notices and cleans up."""
        self._refusals.count(ErrorCode.LIMIT)
        self._refusals.warn("device %s is cut off: %s", self._device.name, reason)
        self._state = ConnectionState.CLOSED
        self._incoming.stop()
        self._socket.abort()

    def _receive(self, message: AgentMessage) -> None:
        self._state = next_state(VERIFIER_CONNECTION, self._state, message)
        match message:
            case Draft() | OpenPart() | Ready() | Cancel():  # nearly all are drafts
                self._channels.receive(message)
            case Hello():
                self._greet(message)
            case Open() | Resume():
                is_leaving = self._state is ConnectionState.LEAVING
                self._channels.open(message, is_leaving=is_leaving)
            case Status():
                self._take_status(message)
            case DraftHeld():
                self._take_held(message)
            case Goodbye():
                self._channels.discard_all()
                self._service.discard_kept(self._device)

    def _take_status(self, status: Status) -> None:
        if status.draft_microseconds:
            seconds = status.draft_microseconds / 1e6
            self._device.own_estimates.speed.observe_drafting(1, seconds)
        if status.health is not None:
            self._device.health = status.health

    def _take_held(self, message: DraftHeld) -> None:
        """The board loaded a draft that it was assigned, or could not; others do not count."""
        device, assignment = self._device, self._device.assignment
        drafts = () if assignment is None else assignment.drafts
        draft = next((one for one in drafts if one.sha256 == message.sha256), None)
        if draft is None:
            return
        if not message.number:
            because = one_line(message.because, MAX_SENTENCE_LENGTH)
            device.refuse(draft, because)
            self._refusals.warn("device %s does not use %s: %s", device.name, draft.name, because)
        else:
            seconds = message.draft_microseconds / 1e6
            device.hold(message.number, draft, seconds, self._service.devices.values())
            logger.info("device %s holds the draft %s", device.name, draft.name)
        self._drafts_changed(device)

    def _greet(self, hello: Hello) -> None:
        device, service = self._device, self._service
        check_hello(hello, service.fingerprint, service.tokenizer, service.target.model_name)
        takeovers = self._usage.takeovers
        if device.outbox is not None:
            if not takeovers.is_allowed(hello.instance_id, asyncio.get_running_loop().time()):
                raise ConnectionRefused(Error(ErrorCode.TOKEN_IN_USE, TOKEN_IN_USE))
            device.outbox.replace()
        takeovers.connect(hello.instance_id)
        device.epoch += 1
        device.outbox = self
        device.draft_with(hello.draft_model, service.devices.values())
        device.draft_context_tokens = hello.context_tokens
        device.takes_notices = hello.takes_notices
        device.takes_drafts = hello.takes_drafts
        device.draft_bytes = hello.draft_bytes
        device.assignment = None
        device.let_go_of()
        logger.info(
            "device %s connected: agent %s, drafting with %s for %d streams at once",
            *(device.name, one_line(hello.agent_version), one_line(hello.draft_model)),
            hello.max_streams,
        )
        if hello.draft_microseconds:
            seconds = hello.draft_microseconds / 1e6
            device.own_estimates.speed.observe_drafting(1, seconds)
        self.send(
            Welcome(
                protocol_version=PROTOCOL_VERSION,
                target_model=service.target.model_name,
                vocab_size=service.target.vocab_size,
                epoch=device.epoch,
                context_tokens=service.limits.context_tokens,
                max_streams=service.limits.max_streams_per_device,
                special_ids=service.packed_special_ids,
                takes_confidence=service.planner.policy.uses_confidence,
                keeps_texts=self._keeps_texts,
            )
        )
        if device.name in service.planner.patience.paused:
            device.tell_held(PAUSED)
        self._drafts_changed(device)
