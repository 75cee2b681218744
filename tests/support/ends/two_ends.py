"""Both ends of one stream without a socket: a board, a link of two queues, the verifier's channel.

Everything that decides is the real code; this module only carries messages, as late as it is told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.draft_model.drafter import Forward
from edge_agent.draft_model.scripted_drafter import ScriptedDrafter, scripted_drafter
from edge_agent.drafting.drafter_choice import DrafterChoice
from edge_agent.drafting.ngram_index import Match
from edge_agent.drafting.settings import DraftSettings
from edge_agent.drafting.step import DraftStep
from edge_agent.drafting.stream import AgentStream
from shared.protocol.codec import decode_from_agent, decode_from_verifier, encode
from shared.protocol.messages import (
    Cancel,
    Draft,
    Open,
    Opened,
    Ready,
    Resume,
    Verdict,
    VerifierMessage,
)
from shared.protocol.session import AGENT_STREAM, VERIFIER_STREAM, StreamState, next_state
from shared.protocol.text import ByteAssembler
from shared.protocol.token_ids import pack_token_ids, unpack_token_ids
from shared.speculation.sampling import SamplingParameters
from shared.speculation.scripted_model import ScriptedModel, scripted_token_bytes
from verifier.engine.service import verdict_of
from verifier.rounds.planner import RoundPlanner, StreamResult
from verifier.streams.draft_arrival import take_draft
from verifier.streams.estimates import DeviceEstimates
from verifier.streams.stream import Stream
from verifier.streams.stream_request import StreamRequest


class EagerChoice(DrafterChoice):
    """Believes two of three things that it finds, so that both drafters have a part in a draft."""

    def suggest(self, drafted: Sequence[int], room: int, model_tokens: float) -> Match | None:
        match = self._index.find(drafted[-self._ngram_tokens :])
        is_believed = match is not None and (match.token_id + len(drafted)) % 3
        return match if is_believed else None


class Board:
    """The agent's end: a stream, its slot of a draft model, and at most one step in progress."""

    def __init__(
        self,
        model: ScriptedModel,
        settings: DraftSettings,
        sampling: SamplingParameters,
        draft_length: int | None,
        *,
        is_eager: bool = False,
    ) -> None:
        self.stream = AgentStream(
            channel=-1,
            vocab_size=model.vocab_size,
            settings=settings,
            sampling=sampling,
            drafts=draft_length != 0,
            drafter_choice=(EagerChoice if is_eager else DrafterChoice)(settings.ngram_tokens),
        )
        self.stream.watch.is_told = True
        if not settings.has_model:
            self.stream.leave_slot()
        self.model = model
        self.drafter: ScriptedDrafter = scripted_drafter(model, num_slots=1)
        self.state = StreamState.OPENING
        self.has_power = True
        self._running: tuple[DraftStep, NDArray[np.float32] | None] | None = None

    @property
    def is_computing(self) -> bool:
        return self._running is not None

    @property
    def step(self) -> DraftStep | None:
        """What the draft model computes now."""
        return self._running[0] if self._running is not None else None

    @property
    def sequence(self) -> tuple[int, ...]:
        """Prompt, committed, sent and unsent tokens."""
        stream = self.stream
        drafted = [token.token_id for token in (*stream.path.live, *stream.unsent.tokens)]
        return (*(stream.prompt_ids or ()), *stream.output_ids, *drafted)

    def start_step(self) -> None:
        """Let the draft model begin what the stream wants, if it wants anything."""
        if self._running is not None or not self.has_power:
            return
        step = self.stream.next_step()
        if step is None:
            return
        held = self.drafter.num_tokens(0)
        assert step.num_kept_tokens <= held
        assert (
            self.sequence[: step.num_kept_tokens] == self.drafter._slots[0][: step.num_kept_tokens]
        )
        self.drafter.truncate(0, step.num_kept_tokens)
        (logits,) = self.drafter.forward([Forward(0, step.token_ids, step.spec is not None)])
        self._running = (step, logits)

    def finish_step(self, seconds: float, now: float) -> list[Ready | Draft]:
        """What the board sends when the step that runs has ended."""
        if self._running is None:
            return []
        (step, logits), self._running = self._running, None
        messages: list[Ready | Draft] = [
            *self.stream.record_step(step, step.draw(logits), seconds, now)
        ]
        if self.stream.take_ready():
            messages.append(Ready(self.stream.channel))
        return messages

    def fail_step(self) -> list[Ready | Draft]:
        """What the board sends when the draft model failed in the step that runs."""
        if self._running is None:
            return []
        (step, _), self._running = self._running, None
        self.drafter.truncate(0, 0)
        return [*self.stream.record_failure(step)]

    def lose_step(self) -> list[Ready | Draft]:
        """What the board sends when the slot turned out to be empty."""
        if self._running is None:
            return []
        self._running = None
        self.drafter.truncate(0, 0)
        return [*self.stream.restart_feeding()]

    def receive(self, message: Opened | Verdict, now: float) -> list[Ready | Draft]:
        """What the board sends at once when this came."""
        self.state = next_state(AGENT_STREAM, self.state, message)
        if isinstance(message, Opened):
            self.stream.start(message)
        else:
            self.stream.commit_verdict(message, now)
            if message.finish is not None:
                self.state = StreamState.ENDED
                return []
        drafts = self.stream.take_due_drafts()
        is_ready = self.stream.take_ready_without_model()
        return [*drafts, *([Ready(self.stream.channel)] if is_ready else [])]


class TwoEnds:
    """One stream: its board, the messages on their way, and what the verifier has of it."""

    def __init__(
        self, request: StreamRequest, stop: tuple[str, ...], board: Board, planner: RoundPlanner
    ) -> None:
        self.request = request
        self.stop = stop
        self.board = board
        self.planner = planner
        self.estimates = DeviceEstimates()
        self.stream: Stream | None = None
        self.kept: Stream | None = None  # of a link that was lost
        self.up: deque[bytes] = deque()
        self.down: deque[bytes] = deque()
        self.channel_state: StreamState | None = None  # None: the verifier knows no such channel
        self.latest_draft: bytes | None = None
        self._next_channel = 0
        self._opening: Open | Resume | None = None
        self.connect()

    @property
    def is_over(self) -> bool:
        return self.board.state is StreamState.ENDED

    @property
    def is_quiet(self) -> bool:
        """Nothing is on its way, in neither direction."""
        return not self.up and not self.down and self._opening is None

    def connect(self, *, keeps: bool = False) -> None:
        """A new link: the old one's messages are lost, the verifier forgets its stream or not."""
        committed = pack_token_ids(self.board.stream.output_ids)
        self._lose_link(keeps=keeps)
        self.up.append(encode(Open(channel=self._channel, stream_id=1, committed=committed)))

    def restart_board(self) -> None:
        """Another process in its place: it knows nothing but the name of the stream."""
        if self.stream is None and self.kept is None:
            return
        old = self.board.stream
        self.board = Board(
            self.board.model,
            old.settings,
            old.sampling,
            self.request.draft_length,
            is_eager=isinstance(old.drafter_choice, EagerChoice),
        )
        self._lose_link(keeps=True)
        self.up.append(encode(Resume(channel=self._channel, stream_id=1)))

    def _lose_link(self, *, keeps: bool) -> None:
        self.up.clear()
        self.down.clear()
        self._opening = self.channel_state = self.latest_draft = None
        if not keeps:
            for stream in (self.stream, self.kept):
                if stream is not None and stream.finish is None:
                    self.planner.discard(stream)
            self.stream = self.kept = None
        elif self.stream is not None:
            self.kept, self.stream = self.stream, None
            if self.kept.finish is None:
                self.planner.park(self.kept)
        self._next_channel += 1
        self.board.stream.reopen(self._channel)
        self.board.state = StreamState.OPENING

    @property
    def _channel(self) -> int:
        return self._next_channel - 1

    def send(self, messages: list[Draft] | list[Ready | Draft]) -> None:
        for message in messages:
            assert self.board.state is not StreamState.ENDED
            packed = encode(message)
            self.up.append(packed)
            if isinstance(message, Draft):
                self.latest_draft = packed

    def cancel(self) -> None:
        self.up.append(encode(Cancel(self.board.stream.channel)))
        if self.board.state is StreamState.RUNNING:
            self.board.state = StreamState.CANCELLING

    def repeat_draft(self) -> None:
        """The latest draft comes once more, behind whatever was sent meanwhile."""
        if self.latest_draft is not None:
            self.up.append(self.latest_draft)

    # --- the verifier's connection -------------------------------------------------------------

    def deliver_up(self, now: float) -> None:
        if not self.up:
            return
        message = decode_from_agent(self.up.popleft())
        if isinstance(message, Open | Resume):
            self._opening, self.channel_state = message, StreamState.OPENING
            return
        if self.channel_state is None:
            return  # ended; this crossed its last verdict
        self.channel_state = next_state(VERIFIER_STREAM, self.channel_state, message)
        stream = self.stream
        if stream is None:
            return  # Cancel while opening
        match message:
            case Ready():
                stream.board_is_ready = True
            case Draft():
                take_draft(stream, message, self.board.stream.vocab_size, now)
            case Cancel():
                self._cancel(stream)

    def finish_opening(self, number: int) -> None:
        """The prompt was tokenized."""
        if self._opening is None:
            return
        message, self._opening = self._opening, None
        num_known = 0
        if isinstance(message, Open):
            num_known = len(unpack_token_ids(message.committed, self.board.stream.vocab_size))
        self._answer(message.channel)
        if self.kept is not None:
            self._take_up(message.channel, num_known)
        else:
            assert isinstance(message, Open)
            self._open(message, number)
        if self.stream is None or self.stream.finish is not None:
            return
        if self.channel_state is StreamState.CANCELLING:
            self._cancel(self.stream)
        else:
            self.channel_state = StreamState.RUNNING

    def _answer(self, channel: int) -> None:
        request = self.request
        prompt = pack_token_ids(request.prompt_ids)
        self.down.append(encode(Opened(channel, prompt, request.seed, request.mode)))

    def _take_up(self, channel: int, num_known: int) -> None:
        """Go on with the kept stream."""
        assert self.kept is not None
        self.stream, self.kept = self.kept, None
        missing = self.stream.attach(num_known, self.request.draft_context_tokens)
        finish = self.stream.finish
        if missing or finish is not None:
            tokens = pack_token_ids(missing)
            self.down.append(encode(Verdict(channel, num_known, 0, tokens, finish=finish)))
        if finish is not None:
            self.channel_state = None
        else:
            self.planner.unpark(self.stream)

    def _open(self, message: Open, number: int) -> None:
        request = self.request
        token_bytes = scripted_token_bytes(self.board.stream.vocab_size)
        self.stream = Stream(
            number=number,
            device="board",
            request=request,
            text=ByteAssembler(token_bytes, frozenset({0}), self.stop),
            device_estimates=self.estimates,
            estimates=self.estimates.open_stream(),
        )
        committed = unpack_token_ids(message.committed, self.board.stream.vocab_size).tolist()
        self.stream.take_up_again(tuple(committed))
        if self.stream.finish is not None:
            self.deliver_result(StreamResult.ended(self.stream))
        else:
            self.planner.add(self.stream)

    def deliver_result(self, result: StreamResult) -> None:
        """Send the verdict of a round."""
        if result.stream is not self.stream or self.channel_state is None:
            return
        self.down.append(encode(verdict_of(self._next_channel - 1, result)))
        if result.stream.finish is not None:
            self.channel_state = None

    def _cancel(self, stream: Stream) -> None:
        if stream.finish is None and (result := self.planner.cancel(stream)) is not None:
            self.deliver_result(result)

    # --- the board's link ----------------------------------------------------------------------

    def deliver_down(self, now: float) -> None:
        if not self.down:
            return
        message: VerifierMessage = decode_from_verifier(self.down.popleft())
        assert isinstance(message, Opened | Verdict)
        self.send(self.board.receive(message, now))
