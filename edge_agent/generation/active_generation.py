"""One generation between a client and the verifier: its text, its events and its counts."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from edge_agent.draft_model.drafter import Drafter
from edge_agent.drafting.settings import DraftSettings
from edge_agent.drafting.verdict import Committed
from edge_agent.generation.counts import Counts
from edge_agent.generation.draft_watch import LEAST_TOKENS, StreamOutcome
from edge_agent.generation.generation import (
    Finished,
    GenerationRequest,
    OwnReason,
    ScoredToken,
    TextPiece,
    Timings,
)
from edge_agent.generation.prompt_telling import UntoldPrompt
from edge_agent.generation.stream_errors import broken_protocol, client_error
from edge_agent.generation.stream_session import StreamSession
from edge_agent.output_parsing.control_marks import control_text
from edge_agent.output_parsing.output_parser import NOTHING_APART, OutputParser
from edge_agent.output_parsing.said import Said
from shared.daemon.log_output.fields import log_fields
from shared.daemon.peer_text import one_line
from shared.errors import GoodspeedError, RemoteProtocolError
from shared.protocol.logprobs import TokenLogprobs, unpack_logprobs
from shared.protocol.messages import (
    Draft,
    Error,
    Open,
    Opened,
    PromptLogprobs,
    PromptPart,
    Ready,
    Resume,
    Verdict,
)
from shared.protocol.text import TextAssembler
from shared.protocol.token_ids import count_token_ids

logger = logging.getLogger(__name__)

Event = TextPiece | UntoldPrompt | Finished | GoodspeedError


class ActiveGeneration(StreamSession):
    """Owned by the agent; a client reads `next_event` until Finished or an error."""

    def __init__(
        self,
        request: GenerationRequest,
        drafter: Drafter,
        settings: DraftSettings,
        now: float,
        *,
        is_resumed: bool = False,
    ) -> None:
        super().__init__(request, settings, drafter.vocab_size, is_resumed=is_resumed)
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self._drafter = drafter
        self._special_ids: frozenset[int] = frozenset()  # the verifier tells
        self._text = self._assembler()
        self._parser: OutputParser | None = None  # None: all that is said is text
        self._reasoning_tokens = 0
        self._unsaid_logprobs: tuple[ScoredToken, ...] = ()
        self._started_at = now
        self._first_token_at: float | None = None
        self._last_token_at = 0.0
        self._num_written = 0  # tokens of its verdicts
        self._cached_prefix_tokens = 0
        self._counts = Counts()
        self._scored: list[ScoredToken] = []  # tokens of the text, where the client asks
        self._end_scored: list[ScoredToken] = []  # and what ended it
        self._num_scored_told = 0

    def learn_vocabulary(self, vocab_size: int, special_ids: frozenset[int]) -> None:
        """Which ids make no text is the verifier's word."""
        super().learn_vocabulary(vocab_size, special_ids)
        if not self.stream.output_ids:
            self._special_ids = special_ids
            self._text = self._assembler()

    def record_sent(
        self, message: Open | Resume | Ready | Draft, num_bytes: int, now: float
    ) -> None:
        """Count a message of this stream."""
        if isinstance(message, Draft):
            self._counts.record_draft(count_token_ids(message.tokens), num_bytes)

    def receive(
        self,
        message: Opened | PromptPart | PromptLogprobs | Verdict | Error,
        num_bytes: int,
        now: float,
    ) -> Committed | None:
        """Take a message in and queue what the client gets from it.

        Raises:
            RemoteProtocolError: it is out of order or does not fit the stream.
        """
        is_known = self.stream.is_started
        committed = super().receive(message, num_bytes, now)
        match message:
            case Opened():
                self._learn_cached_prefix(message)
                if not is_known:
                    self._learn_format(message)
            case Verdict() if committed is not None:
                self._learn_cached_prefix(message)
                self._counts.record_verdict(committed, num_bytes)
                self._tell(message, committed, now)
            case Error():
                self.fail(client_error(message))
        return committed

    @property
    def outcome(self) -> StreamOutcome:
        """What it came to so far, for comparing drafts."""
        first, last, num_tokens = self._first_token_at, self._last_token_at, self._num_written
        is_long = first is not None and num_tokens > LEAST_TOKENS and last > first
        return StreamOutcome(
            (num_tokens - 1) / (last - first) if is_long and first is not None else 0.0,
            self._counts.survived_tokens,
            self._counts.rejections,
        )

    async def next_event(self) -> TextPiece | Finished:
        """What the client gets next.

        Raises:
            GoodspeedError: the generation has failed.
        """
        event = await self.events.get()
        if isinstance(event, GoodspeedError):
            raise event
        if not isinstance(event, UntoldPrompt):
            return event
        try:
            return await asyncio.to_thread(event.piece)
        except RemoteProtocolError as error:
            self._log_broken(error)
            raise broken_protocol(error) from None

    def fail(self, error: GoodspeedError) -> None:
        """End the generation with an error for the client."""
        super().fail(error)
        self.events.put_nowait(error)

    def break_off(self, error: RemoteProtocolError) -> None:
        """End it: what the verifier said cannot be."""
        self._log_broken(error)
        super().break_off(error)

    def _log_broken(self, error: RemoteProtocolError) -> None:
        with log_fields(stream=self.stream.channel):
            logger.warning("a stream ends, the verifier broke the protocol: %s", one_line(error))

    def _assembler(self) -> TextAssembler:
        return TextAssembler(self._drafter.token_bytes, self._special_ids, self.request.stop)

    def _learn_request(self, message: Opened) -> None:
        super()._learn_request(message)
        self._text = self._assembler()

    def _learn_format(self, message: Opened) -> None:
        """How the target writes, of which the verifier speaks once."""
        if self.request.tools and not message.output_format.tools:
            raise RemoteProtocolError(
                "it shows no tools to its target: it is older than this agent"
            )
        if self.request.reading != NOTHING_APART:
            request = self.request
            self._parser = OutputParser(message.output_format, request.reading, request.tools)

    def _learn_cached_prefix(self, message: Opened | Verdict) -> None:
        """What was found counts until the first token, like the time; other messages say 0."""
        if self._first_token_at is None:
            cached = max(self._cached_prefix_tokens, message.cached_prefix_tokens)
            self._cached_prefix_tokens = min(cached, self.stream.told_prompt.num_tokens)

    def _tell(self, message: Verdict, committed: Committed, now: float) -> None:
        if committed.output_ids and self._first_token_at is None:
            self._first_token_at = now
        if committed.output_ids:
            self._last_token_at = now
            self._num_written += len(committed.output_ids)
        stop_ids = self.request.processors.stop_token_ids  # they end the text, and are none of it
        pieces = [
            _piece(self._text_of(token_id), i, committed)
            for i, token_id in enumerate(committed.output_ids)
            if token_id not in stop_ids
        ]
        if message.finish is not None:
            pieces.append(TextPiece(self._text.cut(message.finish.text_bytes), "target"))
        pieces = self._scored_pieces(pieces, message, committed)
        pieces = self._told_apart(pieces, is_over=message.finish is not None)
        pieces = [piece for piece in pieces if piece.text]
        self._emit_prompt(message)
        self._emit(pieces, now)
        if message.finish is not None:
            self.events.put_nowait(
                Finished(
                    reason=message.finish.reason,
                    timings=self._timings(now),
                    seed=self.stream.seed,
                    acceptance_mode=self.stream.mode,
                    token_ids=tuple(self.stream.output_ids),
                    sampling=self.stream.sampling,
                    processors=self.request.processors,
                    logprobs=tuple(self._scored),
                    end_logprobs=tuple(self._end_scored),
                )
            )

    def _emit_prompt(self, message: Verdict) -> None:
        """Queue the prompt before the first thing that is told."""
        is_cancelled = message.finish is not None and message.finish.reason == "cancelled"
        if self.telling.is_due and not is_cancelled:
            known = self.stream.prompt_ids or (), self.stream.vocab_size
            self.events.put_nowait(self.telling.tell(*known, self._bytes_of))

    def _scored_pieces(
        self, pieces: list[TextPiece], message: Verdict, committed: Committed
    ) -> list[TextPiece]:
        """With the log-probabilities of the tokens since the last piece that has text."""
        if self.request.num_logprobs is None:
            return pieces
        # An end that is no part of the text is left out, as its piece is.
        is_ended = message.finish is not None and message.finish.reason == "end"
        stop_ids = self.request.processors.stop_token_ids
        tokens = unpack_logprobs(
            message.logprobs,
            len(committed.output_ids),
            self.request.num_logprobs,
            self.stream.vocab_size,
        )
        output = list(zip(committed.output_ids, tokens, strict=True))
        scored = [self._score(*pair) for pair in output if pair[0] not in stop_ids]
        stops = [self._score(*pair) for pair in output if pair[0] in stop_ids]
        self._end_scored = scored[-1:] if is_ended else stops
        told = []
        for i, piece in enumerate(pieces):
            if i < len(scored) - int(is_ended):
                self._scored.append(scored[i])
            if piece.text:
                since = tuple(self._scored[self._num_scored_told :])
                self._num_scored_told = len(self._scored)
                piece = msgspec.structs.replace(piece, logprobs=since)
            told.append(piece)
        return told

    def _score(self, token_id: int, token: TokenLogprobs) -> ScoredToken:
        top = tuple((self._bytes_of(other), logprob) for other, logprob in token.top)
        return ScoredToken(self._bytes_of(token_id), token.logprob, top)

    def _bytes_of(self, token_id: int) -> bytes:
        """None of one that this board does not have: the target may have more."""
        token_bytes = self._drafter.token_bytes
        return token_bytes[token_id] if token_id < len(token_bytes) else b""

    def _text_of(self, token_id: int) -> str:
        """Text that became certain; control tokens are marks in it, where parts are told apart."""
        text, token_bytes = self._text.push(token_id), self._drafter.token_bytes
        is_known = token_id in self._special_ids and token_id < len(token_bytes)
        if self._parser is None or not is_known:
            return text
        return text + control_text(token_bytes[token_id])

    def _told_apart(self, pieces: list[TextPiece], *, is_over: bool) -> list[TextPiece]:
        """Text, thoughts and calls; log-probabilities go with the next piece that is told."""
        parser = self._parser
        if parser is None:
            return pieces
        told: list[TextPiece] = []
        for i, piece in enumerate(pieces):
            was_reasoning = parser.is_reasoning
            said = parser.feed(piece.text)
            is_token = not is_over or i + 1 < len(pieces)  # the last one is what was held back
            self._reasoning_tokens += is_token and (was_reasoning or parser.is_reasoning)
            self._unsaid_logprobs += piece.logprobs
            told += [self._said(piece, one) for one in said]
        if is_over:
            told += [self._said(TextPiece("", "target"), one) for one in parser.close()]
        return told

    def _said(self, piece: TextPiece, said: Said) -> TextPiece:
        logprobs, self._unsaid_logprobs = self._unsaid_logprobs, ()
        return msgspec.structs.replace(piece, text=said.text, part=said.part, logprobs=logprobs)

    def _emit(self, pieces: list[TextPiece], now: float) -> None:
        """Queue the text of one round, its last piece with the figures."""
        for piece in pieces[:-1]:
            self.events.put_nowait(piece)
        for piece in pieces[-1:]:
            self.events.put_nowait(msgspec.structs.replace(piece, so_far=self._timings(now)))

    def _timings(self, now: float) -> Timings:
        first_token_at = self._first_token_at if self._first_token_at is not None else now
        counts = self._counts
        return Timings(
            prompt_tokens=self.stream.told_prompt.num_tokens,
            cached_prefix_tokens=self._cached_prefix_tokens,
            output_tokens=len(self.stream.output_ids),
            drafted_tokens=counts.drafted_tokens,
            accepted_tokens=counts.accepted_tokens,
            rejected_tokens=counts.rejected_tokens,
            num_verdicts=counts.num_verdicts,
            num_drafting_verdicts=counts.num_drafting_verdicts,
            seconds_to_first_token=first_token_at - self._started_at,
            total_seconds=now - self._started_at,
            wire_bytes=counts.wire_bytes,
            survived_tokens=counts.survived_tokens,
            rejections=counts.rejections,
            round_trip_seconds=self.stream.pace.round_trip_seconds or None,
            reasoning_tokens=self._reasoning_tokens,
            drafts_rest=self.stream.rests,
        )


def _piece(text: str, index: int, committed: Committed) -> TextPiece:
    """The text of one token of a verdict, and how it came to be."""
    if index < committed.num_accepted:
        return TextPiece(text, "accepted")
    reason: OwnReason = "alone"
    num_drafted = committed.num_accepted + committed.num_forced
    if index < num_drafted:
        reason = "forced"
    elif committed.num_dead and index == committed.num_survived:
        reason = "rejection"
    elif num_drafted and index == num_drafted:
        reason = "bonus"
    return TextPiece(text, "target", reason)
