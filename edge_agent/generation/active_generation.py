"""One generation between a client and the verifier: its stream, its text and its counts."""

from __future__ import annotations

import asyncio

import msgspec

from edge_agent.draft_model.drafter import Drafter
from edge_agent.drafting.settings import DraftSettings
from edge_agent.drafting.stream import AgentStream
from edge_agent.drafting.verdict import Committed
from edge_agent.generation.generation import (
    Finished,
    GenerationRequest,
    TextOrigin,
    TextPiece,
    Timings,
    new_stream_id,
)
from shared.errors import GoodspeedError, ModelError, RequestRefused, TooManyStreams
from shared.protocol.messages import (
    MAX_POSITION,
    Draft,
    Error,
    ErrorCode,
    Open,
    Opened,
    Resume,
    Verdict,
)
from shared.protocol.session import AGENT_STREAM, StreamState, next_state
from shared.protocol.text import TextAssembler
from shared.protocol.token_ids import count_token_ids, pack_token_ids

Event = TextPiece | Finished | GoodspeedError


class ActiveGeneration:
    """Owned by the agent; a client reads `events` until Finished or an error.

    One that `is_resumed` was begun before the agent was restarted: the verifier tells what the
    request was, and all that came out.
    """

    def __init__(
        self,
        request: GenerationRequest,
        drafter: Drafter,
        settings: DraftSettings,
        now: float,
        *,
        is_resumed: bool = False,
    ) -> None:
        self.request = request
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.state = StreamState.OPENING
        self.parted_at = 0.0  # when the link was lost, while it is
        self.stream = AgentStream(
            channel=0,
            vocab_size=drafter.vocab_size,
            settings=settings,
            sampling=request.sampling,
            drafts=request.draft_length != 0,
        )
        self._stream_id = request.stream_id if request.stream_id is not None else new_stream_id()
        self._token_bytes = drafter.token_bytes
        self._special_ids: frozenset[int] = frozenset()
        self._text = self._assembler()
        self._is_resumed = is_resumed
        self._started_at = now
        self._first_token_at: float | None = None
        self._cached_prefix_tokens = 0
        self._num_drafted = self._num_accepted = self._num_rejected = 0
        self._num_survived = self._num_rejections = 0
        self._num_verdicts = self._num_drafting_verdicts = 0
        self._wire_bytes = 0

    def welcomed(self, vocab_size: int, special_ids: frozenset[int]) -> None:
        """What a verifier says of its vocabulary; before the stream is opened there."""
        self.stream.vocab_size = vocab_size
        if not self.stream.output_ids:
            self._special_ids = special_ids
            self._text = self._assembler()

    def open_message(self, channel: int) -> Open | Resume:
        """Open, or open again after the link was lost: with what is committed, never twice."""
        stream, request = self.stream, self.request
        self.state = StreamState.OPENING
        stream.reopen(channel)
        is_known = stream.prompt_ids is not None
        if is_known:
            # What earlier drafts came to has taught the verifier: none may be drawn again.
            stream.salt += 2 * MAX_POSITION
        elif self._is_resumed:
            stream.salt = new_stream_id()  # nor those of the agent before
            return Resume(channel=channel, stream_id=self._stream_id)
        return Open(
            channel=channel,
            stream_id=self._stream_id,
            messages=() if is_known else request.messages,
            text="" if is_known else request.text,
            prompt=pack_token_ids(stream.prompt_ids or ()),
            committed=pack_token_ids(stream.output_ids),
            sampling=request.sampling,
            seed=stream.seed if is_known else request.seed,
            stop=request.stop,
            max_tokens=request.max_tokens,
            acceptance_mode=stream.mode if is_known else request.acceptance_mode,
            draft_length=request.draft_length,
        )

    def sent(self, message: object, num_bytes: int) -> None:
        """Count a message of this stream."""
        if isinstance(message, Draft):
            self._wire_bytes += num_bytes
            self._num_drafted += count_token_ids(message.tokens)

    def receive(self, message: Opened | Verdict | Error, num_bytes: int, now: float) -> None:
        """Take a message in and queue what the client gets from it.

        Raises:
            RemoteProtocolError: it is out of order or does not fit the stream.
        """
        self.state = next_state(AGENT_STREAM, self.state, message)
        match message:
            case Opened():
                if self._is_resumed and self.stream.prompt_ids is None:
                    self._learn_request(message)
                self.stream.opened(message)
                self._cached_prefix_tokens = message.cached_prefix_tokens
            case Verdict():
                self._wire_bytes += num_bytes
                self._verdict(message, now)
            case Error():
                self.state = StreamState.ENDED
                self.events.put_nowait(_client_error(message))

    def fail(self, error: GoodspeedError) -> None:
        """End the generation with an error for the client."""
        self.state = StreamState.ENDED
        self.events.put_nowait(error)

    # --- private -------------------------------------------------------------------------------

    def _assembler(self) -> TextAssembler:
        return TextAssembler(self._token_bytes, self._special_ids, self.request.stop)

    def _learn_request(self, message: Opened) -> None:
        self.request = msgspec.structs.replace(
            self.request,
            sampling=message.sampling,
            stop=message.stop,
            max_tokens=message.max_tokens,
            draft_length=message.draft_length,
        )
        self._text = self._assembler()
        self.stream.sampling = message.sampling
        self.stream.drafts = message.draft_length != 0

    def _verdict(self, message: Verdict, now: float) -> None:
        committed = self.stream.verdict(message, now)
        self._count(committed, now)
        for i, token_id in enumerate(committed.token_ids):
            origin: TextOrigin = "accepted" if i < committed.num_accepted else "target"
            self._emit(self._text.push(token_id), origin)
        if message.finish is not None:
            self.state = StreamState.ENDED
            self._emit(self._text.cut(message.finish.text_bytes), "target")
            self.events.put_nowait(
                Finished(
                    reason=message.finish.reason,
                    timings=self._timings(now),
                    seed=self.stream.seed,
                    acceptance_mode=self.stream.mode,
                    token_ids=tuple(self.stream.output_ids),
                )
            )

    def _emit(self, text: str, origin: TextOrigin) -> None:
        if text:
            self.events.put_nowait(TextPiece(text, origin))

    def _count(self, committed: Committed, now: float) -> None:
        if committed.token_ids and self._first_token_at is None:
            self._first_token_at = now
        self._num_verdicts += 1
        self._num_drafting_verdicts += committed.num_tested > 0
        self._num_accepted += committed.num_accepted
        self._num_rejected += committed.num_dead
        self._num_survived += committed.num_survived
        self._num_rejections += committed.num_dead > 0

    def _timings(self, now: float) -> Timings:
        first_token_at = self._first_token_at if self._first_token_at is not None else now
        return Timings(
            prompt_tokens=len(self.stream.prompt_ids or ()),
            cached_prefix_tokens=self._cached_prefix_tokens,
            output_tokens=len(self.stream.output_ids),
            drafted_tokens=self._num_drafted,
            accepted_tokens=self._num_accepted,
            rejected_tokens=self._num_rejected,
            num_verdicts=self._num_verdicts,
            num_drafting_verdicts=self._num_drafting_verdicts,
            seconds_to_first_token=first_token_at - self._started_at,
            total_seconds=now - self._started_at,
            wire_bytes=self._wire_bytes,
            survived_tokens=self._num_survived,
            rejections=self._num_rejections,
        )


def _client_error(error: Error) -> GoodspeedError:
    if error.code == ErrorCode.REQUEST:
        return RequestRefused(error.sentence, error.field or None)
    if error.code == ErrorCode.UNKNOWN_STREAM:
        return RequestRefused(error.sentence, "id")
    if error.code == ErrorCode.LIMIT:
        return TooManyStreams(error.sentence)
    return ModelError(f"the verifier ended the stream: {error.sentence}")
