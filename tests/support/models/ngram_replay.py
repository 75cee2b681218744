"""A recorded text told again in virtual time: a board and a verifier as fast as one says.

Planner, streams and everything that decides are the real code; only the two models are read from
the record.  Times are exact, so that a busy machine changes nothing.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.draft_model.scripted_drafter import ScriptedDrafter
from edge_agent.drafting.drafter_choice import DrafterChoice, DrafterRates
from edge_agent.drafting.settings import DraftSettings
from shared.speculation.sampling import GREEDY
from shared.speculation.scripted_model import ScriptedModel, scripted_token_bytes
from tests.support.ends.limits import (
    make_budget_limits,
    make_round_settings,
    make_schedule_settings,
)
from tests.support.ends.two_ends import Board, TwoEnds
from verifier.cost_curve.curve import CostCurve
from verifier.policies.goodspeed import GoodspeedPolicy
from verifier.rounds.blocks import BlockPool
from verifier.rounds.planner import RoundPlanner
from verifier.streams.stream_request import StreamRequest
from verifier.target.round import Round
from verifier.target.scripted_target import ScriptedTarget

CONTEXT_TOKENS = 4096
NUM_BLOCKS, BLOCK_TOKENS = 300, 16


class Text(msgspec.Struct, frozen=True):
    """What a target wrote, and where a draft model would have drawn the same."""

    domain: str
    sampling: str
    prompt_ids: tuple[int, ...]
    output_ids: tuple[int, ...]
    agrees: tuple[bool, ...]  # for each output token


class Speeds(msgspec.Struct, frozen=True):
    """Of a verifier, a board and the link between them; all in seconds."""

    round_seconds: float
    round_token_seconds: float  # what each token adds
    draft_seconds: float  # a draft token
    read_seconds: float  # each further token that the draft model reads
    round_trip_seconds: float


class Outcome(msgspec.Struct, frozen=True):
    """How one text went."""

    num_tokens: int
    num_rounds: int
    seconds: float  # from the first token on
    drafting_seconds: float


class RecordedModel:
    """Says what is recorded where `agrees`, and nonsense elsewhere."""

    def __init__(self, tokens: tuple[int, ...], agrees: Sequence[bool], vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self._tokens = tokens
        self._agrees = agrees

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Logits [vocab_size] of the token after `tokens`."""
        position = len(tokens) - (len(self._tokens) - len(self._agrees))
        is_on_it = (
            0 <= position < len(self._agrees) and tuple(tokens) == self._tokens[: len(tokens)]
        )
        is_right = is_on_it and self._agrees[position]
        logits = np.zeros(self.vocab_size, dtype=np.float32)
        logits[self._tokens[len(tokens)] if is_right else self.vocab_size - 1] = 1.0
        return logits


def replay(text: Text, settings: DraftSettings, rates: DrafterRates, speeds: Speeds) -> Outcome:
    """Let board and verifier write the text; `rates` are the board's and learn."""
    return _Replay(_renumbered(text), settings, rates, speeds).run()


def _renumbered(text: Text) -> Text:
    """The same with small token ids: logits of a whole vocabulary take long."""
    ids = {token_id: i for i, token_id in enumerate({*text.prompt_ids, *text.output_ids}, start=1)}
    return msgspec.structs.replace(
        text,
        prompt_ids=tuple(ids[token_id] for token_id in text.prompt_ids),
        output_ids=tuple(ids[token_id] for token_id in text.output_ids),
    )


class _Replay:
    def __init__(
        self, text: Text, settings: DraftSettings, rates: DrafterRates, speeds: Speeds
    ) -> None:
        self.text, self.speeds = text, speeds
        tokens = text.prompt_ids + text.output_ids
        vocab_size = max(tokens) + 2
        always = [True] * len(text.output_ids)
        self.target = ScriptedTarget(
            RecordedModel(tokens, always, vocab_size),
            num_blocks=NUM_BLOCKS,
            block_tokens=BLOCK_TOKENS,
        )
        self.planner = _planner(speeds)
        self.board = Board(ScriptedModel(vocab_size, 0), settings, GREEDY, None)
        self.board.drafter = ScriptedDrafter(
            RecordedModel(tokens, text.agrees, vocab_size).logits,
            scripted_token_bytes(vocab_size),
            context_tokens=CONTEXT_TOKENS,
        )
        self.board.stream.drafter_choice = DrafterChoice(settings.ngram_tokens, rates.branch())
        self.board.stream.pace.round_trip_seconds = speeds.round_trip_seconds
        self.ends = TwoEnds(_request(text), (), self.board, self.planner)
        self.now = self.drafting_seconds = 0.0
        self.first_token_at: float | None = None
        self.num_rounds = 0
        self.running: Round | None = None
        self._events: list[tuple[float, int, str]] = []
        self._order = itertools.count()
        self._num_sent = {"up": 0, "down": 0}

    def run(self) -> Outcome:
        self._go_on()
        while not self.ends.is_over:
            self.now, _, event = heapq.heappop(self._events)
            match event:
                case "up":
                    self._num_sent["up"] -= 1
                    self.ends.deliver_up(self.now)
                case "down":
                    self._num_sent["down"] -= 1
                    self.ends.deliver_down(self.now)
                case "round":
                    self._finish_round()
                case _:
                    self.ends.send(self.board.finish_step(float(event), self.now))
            self._go_on()
        assert self.text.output_ids == tuple(self.board.stream.output_ids)
        seconds = self.now - (self.first_token_at or 0.0)
        num_tokens = len(self.text.output_ids)
        return Outcome(num_tokens, self.num_rounds, seconds, self.drafting_seconds)

    def _go_on(self) -> None:
        """Send what is there to send, start what can be started."""
        self.ends.finish_opening(1)
        for name, queue in (("up", self.ends.up), ("down", self.ends.down)):
            while self._num_sent[name] < len(queue):
                self._num_sent[name] += 1
                self._after(self.speeds.round_trip_seconds / 2, name)
        self._start_round()
        if not self.board.is_computing and not self.ends.is_over:
            num_fed = self.board.drafter.num_tokens(0)
            self.board.start_step()
            if self.board.is_computing:
                num_read = max(self.board.drafter.num_tokens(0) - num_fed, 1)
                seconds = self.speeds.draft_seconds + (num_read - 1) * self.speeds.read_seconds
                self.drafting_seconds += seconds
                self._after(seconds, str(seconds))

    def _start_round(self) -> None:
        if self.running is None:
            self.running = self.planner.start_round(self.now)
            if self.running is not None:
                self._after(self._seconds_of(self.running), "round")

    def _finish_round(self) -> None:
        round_, self.running = self.running, None
        assert round_ is not None
        outcome = self.target.run(round_)
        seconds = self._seconds_of(round_)
        results = self.planner.finish_round(round_, outcome, seconds, self.now)
        if any(item.draft_check is not None for item in round_.items):
            self.num_rounds += 1
            self.first_token_at = self.first_token_at or self.now
        self._start_round()  # before the verdicts are out, as the engine does
        for result in results:
            self.ends.deliver_result(result)

    def _seconds_of(self, round_: Round) -> float:
        return self.speeds.round_seconds + round_.num_tokens * self.speeds.round_token_seconds

    def _after(self, seconds: float, event: str) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), event))


def _request(text: Text) -> StreamRequest:
    return StreamRequest(
        prompt_ids=text.prompt_ids,
        sampling=GREEDY,  # what was drawn is recorded
        mode="coupled",
        seed=1,
        max_output_tokens=len(text.output_ids),
        ends_at_context=False,
        end_ids=frozenset(),
        draft_length=None,
        draft_context_tokens=CONTEXT_TOKENS,
    )


def _planner(speeds: Speeds) -> RoundPlanner:
    longest = speeds.round_seconds + 64 * speeds.round_token_seconds
    schedule = make_schedule_settings(
        limits=make_budget_limits(max_round_tokens=1024, budget_tokens=24),
        max_draft_length=16,
        max_window=32,
    )
    return RoundPlanner(
        make_round_settings(
            schedule=schedule, prefill_chunk_tokens=512, draft_timeout_seconds=10.0
        ),
        GoodspeedPolicy(),
        CostCurve.from_samples([(1, 64, speeds.round_seconds), (65, 64, longest)]),
        BlockPool(NUM_BLOCKS, BLOCK_TOKENS),
    )
