"""One stream of a load test: an agent's stream without a client, and what is measured of it.

Pure.  It must never touch a socket or a clock; the board tells it what arrived and when.
"""

from __future__ import annotations

from collections import deque

import msgspec

from edge_agent.drafting.step import DraftStep
from edge_agent.drafting.stream import AgentStream
from edge_agent.fleet.draft_source import Guess
from edge_agent.fleet.tally import FleetTally
from edge_agent.fleet.workload import FleetLoad
from shared.protocol.messages import Draft, Open, Opened, Verdict, VerifierMessage
from shared.protocol.session import AGENT_STREAM, StreamState, next_state
from shared.protocol.token_ids import count_token_ids, pack_token_ids


class FleetStream:
    """Owned by its board; `stream` decides what is drafted, as in a real agent."""

    __slots__ = (
        "_board",
        "_drafts_sent",
        "_first_token_came",
        "_latest_verdict_at",
        "_open",
        "_opened_at",
        "_slot",
        "_state",
        "_tally",
        "stream",
    )

    def __init__(
        self, request: Open, load: FleetLoad, vocab_size: int, tally: FleetTally, board: int
    ) -> None:
        self.stream = AgentStream(
            channel=request.channel,
            vocab_size=vocab_size,
            settings=load.draft_settings,
            sampling=load.sampling,
            drafts=True,
        )
        self._open = request
        self._tally = tally
        self._board = board
        self._slot: list[int] = []  # what the draft model has read
        self._state = StreamState.OPENING
        self._opened_at = 0.0
        self._first_token_came = False
        self._latest_verdict_at: float | None = None
        self._drafts_sent: deque[tuple[int, float]] = deque()  # position and time

    @property
    def is_over(self) -> bool:
        """Whether the verifier has ended it."""
        return self._state is StreamState.ENDED

    def open_message(self, channel: int, now: float) -> Open:
        """Open, or open again on another connection with what was committed."""
        if self.stream.prompt_ids is None:
            self._opened_at = now
        self.stream.reopen(channel)
        self._state = StreamState.OPENING
        self._latest_verdict_at = None
        self._drafts_sent.clear()
        return msgspec.structs.replace(
            self._open, channel=channel, committed=pack_token_ids(self.stream.output_ids)
        )

    def receive(self, message: VerifierMessage, now: float) -> None:
        """Take a message of this stream in.

        Raises:
            RemoteProtocolError: it is out of order or does not fit the stream.
        """
        self._state = next_state(AGENT_STREAM, self._state, message)
        if isinstance(message, Verdict):
            self._verdict(message, now)
            if message.finish is not None:
                self._state = StreamState.ENDED
        elif isinstance(message, Opened):
            self.stream.start(message)

    def sent(self, draft: Draft, now: float) -> None:
        """A draft is on its way."""
        num_tokens = count_token_ids(draft.tokens)
        self._tally.num_drafted += num_tokens
        if num_tokens:
            self._drafts_sent.append((draft.position, now))

    def computed(self, step: DraftStep, guess: Guess, seconds: float, now: float) -> list[Draft]:
        """The board has done a step; the drafts to send now."""
        del self._slot[step.num_kept_tokens :]
        self._slot += step.token_ids
        drawn = guess(self._slot, step.spec) if step.spec is not None else None
        return self.stream.record_step(step, drawn, seconds, now)

    # --- private -------------------------------------------------------------------------------

    def _verdict(self, message: Verdict, now: float) -> None:
        committed = self.stream.commit_verdict(message, now)
        tally = self._tally
        tally.committed(self._board, len(committed.output_ids))
        tally.num_accepted += committed.num_accepted
        tally.num_survived += committed.num_survived
        tally.num_rejections += committed.num_dead > 0
        if committed.output_ids and not self._first_token_came:
            self._first_token_came = True
            tally.first_token.observe(now - self._opened_at)
        if self._latest_verdict_at is not None:
            tally.pause.observe(now - self._latest_verdict_at)
        self._latest_verdict_at = now
        position = message.position + len(committed.output_ids)
        while self._drafts_sent and self._drafts_sent[0][0] < position:
            tally.verdict.observe(now - self._drafts_sent.popleft()[1])
