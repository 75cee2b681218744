"""The simulated verifier: the real planner, with a target that is a clock and a script.

It does what `verifier.engine.engine` does on the event loop, in the same order; a test holds the
two together. This module must never decide what a round holds.
"""

from __future__ import annotations

from collections.abc import Callable

from shared.protocol.messages import Draft, Ready
from verifier.rounds.planner import RoundPlanner, StreamResult
from verifier.sim.clock import Clock
from verifier.sim.round_model import RoundModel
from verifier.sim.text import VOCAB_SIZE, StreamText
from verifier.streams.draft_arrival import take_draft
from verifier.streams.stream import Stream
from verifier.target.round import DraftCheck, ItemOutcome, Round, RoundOutcome


class VerifierEnd:
    """Plan, wait for as long as the round takes, settle, tell; again."""

    def __init__(
        self,
        clock: Clock,
        planner: RoundPlanner,
        rounds: RoundModel,
        deliver: Callable[[list[StreamResult]], None],
        report: Callable[[Round, float], None],
    ) -> None:
        self.planner = planner
        self.texts: dict[int, StreamText] = {}  # of open streams, by number
        self._clock = clock
        self._rounds = rounds
        self._deliver = deliver
        self._report = report
        self._is_running = False
        self._is_woken = False
        self._wakes_at: float | None = None

    def open(self, stream: Stream, text: StreamText) -> None:
        """A new stream."""
        self.texts[stream.number] = text
        self.planner.add(stream)
        self.wake()

    def close(self, stream: Stream) -> None:
        """The board of a stream is gone for good."""
        self.planner.discard(stream)
        self.wake()

    def receive(self, stream: Stream, message: Ready | Draft) -> None:
        """A message of a stream's board arrived."""
        if stream.finish is None:
            if isinstance(message, Draft):
                take_draft(stream, message, VOCAB_SIZE, self._clock.now)
            else:
                stream.board_is_ready = True
        self.wake()

    def wake(self) -> None:
        """There may be work: look when all has come that comes at this moment."""
        if not self._is_running and not self._is_woken:
            self._is_woken = True
            self._clock.call_at(self._clock.now, self._look)

    def _look(self) -> None:
        self._is_woken = False
        if not self._is_running:
            self._start_round()
            self.planner.follow_up(self._clock.now)

    def _start_round(self) -> None:
        now = self._clock.now
        round_ = self.planner.start_round(now)
        if round_ is not None:
            self._is_running = True
            seconds = self._rounds.seconds(round_)
            self._clock.call_at(now + seconds, self._finish_round, round_, seconds)
            return
        deadline = self.planner.next_deadline()
        if deadline is not None and deadline != self._wakes_at:
            self._wakes_at = deadline
            self._clock.call_at(deadline, self.wake)

    def _finish_round(self, round_: Round, seconds: float) -> None:
        now = self._clock.now
        self._is_running = False
        outcome = scripted_outcome(round_, self.texts, seconds)
        results = self.planner.finish_round(round_, outcome, seconds, now)
        self._start_round()
        self._deliver(results)
        self.planner.follow_up(now)
        self._report(round_, seconds)


def scripted_outcome(round_: Round, texts: dict[int, StreamText], seconds: float) -> RoundOutcome:
    """What the target makes of a round whose texts are known."""
    outcomes = [
        None if item.draft_check is None else _outcome(item.draft_check, texts[item.stream])
        for item in round_.items
    ]
    return RoundOutcome(tuple(outcomes), seconds, 0.0)


def _outcome(check: DraftCheck, text: StreamText) -> ItemOutcome:
    are_right = [
        token_id == text.target_token(check.position + i)
        for i, token_id in enumerate(check.draft_token_ids)
    ]
    num_accepted = are_right.index(False) if False in are_right else len(are_right)
    draws = check.draws_bonus or num_accepted < len(are_right)
    token_id = text.target_token(check.position + num_accepted) if draws else None
    # Rows are certain in a script: a token survives for sure or not at all.
    accept_probs = tuple([float(is_right) for is_right in are_right]) if check.rows else ()
    return ItemOutcome(num_accepted, token_id, accept_probs)
