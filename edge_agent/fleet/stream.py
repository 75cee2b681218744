"""One stream of a load test: an agent's stream without a client, and what is measured of it.

Pure. It must never touch a socket or a clock; the board tells it what arrived and when.
"""

from __future__ import annotations

from collections import deque

from edge_agent.drafting.step import DraftStep
from edge_agent.drafting.verdict import Committed
from edge_agent.fleet.draft_source import Guess
from edge_agent.fleet.tally import FleetTally
from edge_agent.fleet.workload import FleetLoad
from edge_agent.generation.generation import GenerationRequest
from edge_agent.generation.stream_session import StreamSession
from shared.errors import GoodspeedError
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
from shared.protocol.token_ids import count_token_ids


class FleetStream(StreamSession):
    """Owned by its board; `stream` decides what is drafted, as in a real agent."""

    def __init__(
        self,
        request: GenerationRequest,
        load: FleetLoad,
        vocab_size: int,
        tally: FleetTally,
        board: int,
        now: float,
    ) -> None:
        super().__init__(request, load.draft_settings, vocab_size)
        self._tally = tally
        self._board = board
        self._slot: list[int] = []  # what the draft model has read
        self._asked_at = now
        self._first_token_came = False
        self._latest_verdict_at: float | None = None
        self._drafts_sent: deque[tuple[int, float]] = deque()  # position and time

    def open_message(self, channel: int) -> Open | Resume:
        """Open, or open again on another link: what it waits for is no latency of a round."""
        self._latest_verdict_at = None
        self._drafts_sent.clear()
        return super().open_message(channel)

    def record_sent(
        self, message: Open | Resume | Ready | Draft, num_bytes: int, now: float
    ) -> None:
        """Count a draft, and wait for its verdict."""
        if isinstance(message, Draft):
            num_tokens = count_token_ids(message.tokens)
            self._tally.counts.record_draft(num_tokens, num_bytes)
            if num_tokens:
                self._drafts_sent.append((message.position, now))

    def receive(
        self,
        message: Opened | PromptPart | PromptLogprobs | Verdict | Error,
        num_bytes: int,
        now: float,
    ) -> Committed | None:
        """Take a message of this stream in.

        Raises:
            RemoteProtocolError: it is out of order or does not fit the stream.
        """
        committed = super().receive(message, num_bytes, now)
        if isinstance(message, Error):
            self._tally.record_failure(message.sentence)
        elif isinstance(message, Verdict) and committed is not None:
            self._tally.counts.record_verdict(committed, num_bytes)
            self._measure(message, committed, now)
            self._tally.num_streams_finished += message.finish is not None
        return committed

    def fail(self, error: GoodspeedError) -> None:
        """End the stream, and count why."""
        super().fail(error)
        self._tally.record_failure(str(error))

    def finish_step(self, step: DraftStep, guess: Guess, seconds: float, now: float) -> list[Draft]:
        """The board has done a step; the drafts to send now."""
        del self._slot[step.num_kept_tokens :]
        self._slot += step.token_ids
        drawn = guess(self._slot, step.spec) if step.spec is not None else None
        return self.stream.record_step(step, drawn, seconds, now)

    def _measure(self, message: Verdict, committed: Committed, now: float) -> None:
        tally = self._tally
        tally.record_tokens(self._board, len(committed.output_ids))
        if committed.output_ids and not self._first_token_came:
            self._first_token_came = True
            tally.first_token.observe(now - self._asked_at)
        if self._latest_verdict_at is not None:
            tally.pause.observe(now - self._latest_verdict_at)
        self._latest_verdict_at = now
        position = message.position + len(committed.output_ids)
        while self._drafts_sent and self._drafts_sent[0][0] < position:
            tally.verdict.observe(now - self._drafts_sent.popleft()[1])
