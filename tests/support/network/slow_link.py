"""Boards over slow links in virtual time: the real streams, planner and codec, and a clock of ours.

What takes time does so as the world says: rounds, draft tokens, and messages on their way.  A
minute of chat takes a second, and comes out the same every time.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Literal

from edge_agent.drafting.settings import DraftSettings
from shared.protocol.messages import AcceptanceMode
from shared.speculation.sampling import SamplingParameters
from shared.speculation.scripted_model import ScriptedModel
from tests.support.ends.limits import (
    make_budget_limits,
    make_round_settings,
    make_schedule_settings,
)
from tests.support.ends.two_ends import Board, TwoEnds
from verifier.cost_curve.curve import CostCurve
from verifier.policies import PolicyName, policy_named
from verifier.rounds.blocks import BlockPool
from verifier.rounds.planner import RoundPlanner
from verifier.streams.stream_request import StreamRequest
from verifier.target.round import Round
from verifier.target.scripted_target import ScriptedTarget

VOCAB_SIZE = 64
BLOCK_TOKENS, NUM_BLOCKS = 16, 4096
# So that greedy texts do not run in circles, where every token is right or none.
ORDER = 8
TARGET_MODEL = ScriptedModel(VOCAB_SIZE, seed=7, order=ORDER)
# A batch of tokens against one token, for a draft model on a board.
SECONDS_OF_ANOTHER_TOKEN = 0.15

Arm = Literal["alone", "waiting", "product"]


@dataclass(frozen=True, kw_only=True)
class World:
    """How long things take, and what is asked for."""

    arm: Arm = "product"
    mode: AcceptanceMode = "coupled"
    sampling: SamplingParameters
    disagreement: float  # of the draft model; see `ScriptedModel`
    round_trip_seconds: float
    round_seconds: float = 0.06
    seconds_of_round_token: float = 0.0007
    draft_token_seconds: float = 1 / 150
    num_tokens: int = 400
    seed: int = 0
    max_draft_length: int = 16
    max_window: int = 64
    policy: PolicyName = "goodspeed"

    def seconds_of_round(self, num_tokens: int) -> float:
        """T of a round."""
        return self.round_seconds + self.seconds_of_round_token * num_tokens


@dataclass(frozen=True)
class Played:
    """What one stream got."""

    tokens_per_second: float  # behind its first token
    drafted_per_token: float
    token_ids: tuple[int, ...]


def play(world: World) -> Played:
    """Let one stream run to its end."""
    return _Clockwork(world).run()


class _Timed:
    """A queue of messages that arrive in their order after the link's delay."""

    def __init__(self, arrive_later: Callable[[], None]) -> None:
        self._messages: list[bytes] = []
        self._arrive_later = arrive_later

    def append(self, message: bytes) -> None:
        self._messages.append(message)
        self._arrive_later()

    def popleft(self) -> bytes:
        return self._messages.pop(0)

    def clear(self) -> None:
        self._messages.clear()

    def __len__(self) -> int:
        return len(self._messages)


class _Clockwork:
    def __init__(self, world: World) -> None:
        self.world = world
        self.now = 100.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()
        self._running: Round | None = None
        self._round_started_at = 0.0
        self._progress: list[tuple[float, int]] = []  # when, and output tokens by then
        self._num_drafted = 0
        self._target = ScriptedTarget(TARGET_MODEL, num_blocks=NUM_BLOCKS)
        self._planner = _planner(world)
        request = _request(world)
        self._board = _board(world, request)
        self._ends = TwoEnds(request, (), self._board, self._planner)
        opening = self._ends.up.popleft()
        half = world.round_trip_seconds / 2
        self._ends.up = _Timed(lambda: self._at(half, self._up))  # type: ignore[assignment]
        self._ends.down = _Timed(lambda: self._at(half, self._down))  # type: ignore[assignment]
        self._ends.up.append(opening)

    def run(self) -> Played:
        while not self._ends.is_over:
            self.now, _, happen = heapq.heappop(self._events)
            happen()
        first = next(entry for entry in self._progress if entry[1] > 0)
        last = self._progress[-1]
        return Played(
            tokens_per_second=(last[1] - first[1]) / (last[0] - first[0]),
            drafted_per_token=self._num_drafted / last[1],
            token_ids=tuple(self._board.stream.output_ids),
        )

    def _at(self, seconds: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._number), happen))

    def _up(self) -> None:
        self._ends.deliver_up(self.now)
        self._ends.finish_opening(1)
        self._start_round()

    def _down(self) -> None:
        self._ends.deliver_down(self.now)
        self._progress.append((self.now, len(self._board.stream.output_ids)))
        self._start_step()

    def _start_step(self) -> None:
        if self._ends.is_over or self._board.is_computing:
            return
        self._board.start_step()
        step = self._board.step
        if step is not None:
            num_others = max(len(step.token_ids) - 1, 0)
            seconds = self.world.draft_token_seconds * (1 + SECONDS_OF_ANOTHER_TOKEN * num_others)
            self._num_drafted += step.spec is not None
            self._at(seconds, lambda: self._finish_step(seconds))

    def _finish_step(self, seconds: float) -> None:
        if not self._ends.is_over:
            self._ends.send(self._board.finish_step(seconds, self.now))
            self._start_step()

    def _start_round(self) -> None:
        if self._running is None:
            self._running = self._planner.start_round(self.now)
            if self._running is not None:
                self._round_started_at = self.now
                seconds = self.world.seconds_of_round(self._running.num_tokens)
                self._at(seconds, self._finish_round)

    def _finish_round(self) -> None:
        round_, self._running = self._running, None
        assert round_ is not None
        outcome = self._target.run(round_)
        seconds = self.now - self._round_started_at
        results = self._planner.finish_round(round_, outcome, seconds, self.now)
        self._start_round()  # as the engine does, before verdicts leave
        for result in results:
            self._ends.deliver_result(result)
        self._planner.follow_up(self.now)


def _planner(world: World) -> RoundPlanner:
    """Waiting: a round starts when the whole draft for it is there, and nobody drafts beyond."""
    is_waiting = world.arm == "waiting"
    settings = make_round_settings(
        schedule=make_schedule_settings(
            limits=make_budget_limits(max_round_tokens=512),
            max_draft_length=world.max_draft_length,
            max_window=world.max_draft_length if is_waiting else world.max_window,
        ),
        prefill_chunk_tokens=256,
        draft_timeout_seconds=60.0,
        is_barrier=is_waiting,
    )
    samples = [(n, 128, world.seconds_of_round(n)) for n in (1, 2, 4, 8, 16, 32, 64, 128)]
    pool = BlockPool(NUM_BLOCKS, BLOCK_TOKENS)
    return RoundPlanner(settings, policy_named(world.policy), CostCurve.from_samples(samples), pool)


def _request(world: World) -> StreamRequest:
    return StreamRequest(
        prompt_ids=tuple((3 * i + 11 * world.seed) % 60 + 1 for i in range(20)),
        sampling=world.sampling,
        mode=world.mode,
        seed=1000 + world.seed,
        max_output_tokens=world.num_tokens,
        ends_at_context=False,
        end_ids=frozenset(),
        draft_length=0 if world.arm == "alone" else None,
        draft_context_tokens=world.num_tokens + 100,
    )


def _board(world: World, request: StreamRequest) -> Board:
    settings = DraftSettings(
        row_entries=32,
        confidence_stop=0.0,
        prefill_chunk_tokens=64,
        context_tokens=request.draft_context_tokens,
    )
    model = ScriptedModel(VOCAB_SIZE, seed=7, order=ORDER, disagreement=world.disagreement)
    board = Board(model, settings, request.sampling, request.draft_length)
    board.stream.pace.round_trip_seconds = world.round_trip_seconds
    return board
