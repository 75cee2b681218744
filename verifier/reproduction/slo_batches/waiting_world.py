"""A world of streams that wait for every verdict, as the published systems have them.

Boards, links, texts and the target's times are those of a scenario of `verifier.sim`, so that our
planner and these rules meet the same ones. A board drafts a fixed number of tokens, sends them,
waits for the verdict. This module must never choose a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from verifier.reproduction.slo_batches.batch_rules import BatchRule, Request
from verifier.reproduction.slo_batches.kept_slos import KeptSlos, SloCount
from verifier.reproduction.slo_batches.world import slo_class_of
from verifier.sim.acceptance import Acceptance
from verifier.sim.clock import HeapClock
from verifier.sim.fleet import FleetBoard, acceptance_of, fleet_of
from verifier.sim.link import Lane
from verifier.sim.round_model import line_seconds
from verifier.sim.scenario import Scenario


class _Board:
    """One board and the stream that it has, if any."""

    def __init__(self, board: FleetBoard, seed: int) -> None:
        self.spec = board
        self.random = Random(f"{seed}-{board.name}-times")
        self.up, self.down = Lane(board.link, self.random), Lane(board.link, self.random)
        self.num_opened = 0
        self.number = 0  # of its stream
        self.position = 0
        self.acceptance: Acceptance | None = None


class WaitingWorld:
    """One run: a batch rule, and a draft length for each board."""

    def __init__(self, scenario: Scenario, rule: BatchRule, lengths: Sequence[int]) -> None:
        self._scenario = scenario
        self._rule = rule
        self._lengths = lengths
        self._clock = HeapClock()
        self._boards = [_Board(board, scenario.run.seed) for board in fleet_of(scenario)]
        self._count = SloCount()
        self._num_opened = 0
        self._waiting: list[Request] = []
        self._drafting: set[int] = set()
        self._is_checking = False
        for i, board in enumerate(self._boards):
            self._clock.call_at(board.spec.joins_at, self._open, i)

    def play(self) -> KeptSlos:
        """To the scenario's end."""
        seconds = self._scenario.run.seconds
        self._clock.run(seconds)
        return self._count.kept(seconds)

    def _open(self, i: int) -> None:
        board = self._boards[i]
        self._num_opened += 1
        board.number, board.position = self._num_opened, 0
        board.acceptance = acceptance_of(self._scenario, board.spec, board.num_opened)
        board.num_opened += 1
        self._count.open(board.number, *slo_class_of(board.spec), self._clock.now)
        self._send_down(i)

    def _send_down(self, i: int) -> None:
        self._drafting.add(i)
        self._clock.call_at(self._boards[i].down.arrival(self._clock.now, 0), self._draft, i)

    def _draft(self, i: int) -> None:
        seconds = self._lengths[i] * self._boards[i].spec.spec.token_seconds
        self._clock.call_at(self._clock.now + seconds, self._send_up, i)

    def _send_up(self, i: int) -> None:
        self._clock.call_at(self._boards[i].up.arrival(self._clock.now, 0), self._arrive, i)

    def _arrive(self, i: int) -> None:
        self._drafting.discard(i)
        due_at = self._count.due_at(self._boards[i].number)
        self._waiting.append(Request(due_at, i, self._lengths[i] + 1))
        self._look()

    def _look(self) -> None:
        if self._is_checking:
            return
        now = self._clock.now
        batch = self._rule.next_batch(self._waiting, self._drafting, now)
        if batch:
            self._is_checking = True
            chosen = {request.board for request in batch}
            self._waiting = [one for one in self._waiting if one.board not in chosen]
            num_tokens = sum(request.num_tokens for request in batch)
            seconds = line_seconds(self._scenario.target, num_tokens)
            self._clock.call_at(now + seconds, self._finish, batch)

    def _finish(self, batch: Sequence[Request]) -> None:
        self._is_checking = False
        for request in batch:
            self._commit(request.board)
        self._look()

    def _commit(self, i: int) -> None:
        board, now = self._boards[i], self._clock.now
        assert board.acceptance is not None, "its stream is open"
        num_accepted = 0
        while num_accepted < self._lengths[i] and board.acceptance.is_right(
            board.position + num_accepted, num_accepted, now
        ):
            num_accepted += 1
        group = board.spec.group
        num_tokens = min(num_accepted + 1, group.output_tokens - board.position)
        board.position += num_tokens
        self._count.take(board.number, num_tokens, now)
        if board.position < group.output_tokens:
            self._send_down(i)
        else:
            pause = group.think_seconds * board.random.uniform(0.5, 1.5)
            self._clock.call_at(now + pause, self._open, i)
