"""Streams whose boards draft at once, through the verifier's own engine and planner.

What is left out of a real load: sockets, the codec, and the time that boards and links need.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count

import numpy as np
from msgspec.structs import replace

from shared.protocol.draft_path import DraftToken, Extension
from shared.protocol.messages import AcceptanceMode
from shared.protocol.text import ByteAssembler
from shared.speculation.quantised_row import quantise
from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.support.models.replay_target import GUESS_ID
from verifier.configured_rounds import round_settings
from verifier.cost_curve.curve import CostCurve
from verifier.engine.engine import Engine, RoundReport
from verifier.policies import policy_named
from verifier.rounds.blocks import BlockPool
from verifier.rounds.planner import RoundPlanner, StreamResult
from verifier.rounds.settings import RoundsSection
from verifier.streams.estimates import DeviceEstimates
from verifier.streams.stream import Stream
from verifier.streams.stream_request import StreamRequest
from verifier.target.round import Round, RoundOutcome
from verifier.target.target import TargetModel

ROW_ENTRIES = 32  # what a board sends at most by default


@dataclass(frozen=True)
class ReplayLoad:
    """Streams that all start together, behind prompts that are read."""

    num_streams: int
    num_context_tokens: int
    num_output_tokens: int  # of each stream, behind the one that comes with its prompt
    mode: AcceptanceMode = "coupled"
    sampling: SamplingParameters = GREEDY
    draft_length: int | None = None  # None: the scheduler chooses


@dataclass(frozen=True)
class ReplayFigures:
    """What one load did; a turn is one stream's part in one round."""

    num_tokens: int
    seconds: float
    num_tokens_of_all: int  # until the first stream ended
    seconds_of_all: float
    stream_seconds: tuple[float, ...]  # when each stream ended
    turns: tuple[tuple[int, int], ...]  # drafted, accepted
    boards_seconds: float  # drafting, between the rounds; part of `settle_seconds` and of rounds
    reports: tuple[RoundReport, ...]

    @property
    def tokens_per_second(self) -> float:
        return self.num_tokens / self.seconds

    @property
    def tokens_per_second_of_all(self) -> float:
        """While all streams ran: without the end, when rounds get shorter."""
        return self.num_tokens_of_all / self.seconds_of_all

    @property
    def stream_tokens_per_second(self) -> float:
        """The median stream's own speed."""
        num_tokens = self.num_tokens / len(self.stream_seconds)
        return num_tokens / statistics.median(self.stream_seconds)

    @property
    def tokens_per_turn(self) -> float:
        return self.num_tokens / len(self.turns)

    @property
    def draft_length(self) -> float:
        """Mean number of draft tokens that a turn tests."""
        return statistics.fmean(drafted for drafted, _ in self.turns)

    @property
    def acceptance_rate(self) -> float | None:
        """Accepted of the draft tokens that were reached; None without drafts."""
        num_accepted = sum(accepted for _, accepted in self.turns)
        num_rejected = sum(accepted < drafted for drafted, accepted in self.turns)
        num_reached = num_accepted + num_rejected
        return num_accepted / num_reached if num_reached else None

    def round_seconds(self, percent: float) -> float:
        """A percentile of the wall time of rounds."""
        return float(np.percentile([report.total_seconds for report in self.reports], percent))

    def phase_seconds(self, phase: str) -> float:
        """Mean of a field of `RoundReport`."""
        return statistics.fmean(getattr(report, phase) for report in self.reports)


class _BoardsPlanner(RoundPlanner):
    """A planner whose boards have drafted, and links carried, before it plans the next round."""

    boards_seconds = 0.0

    def finish_round(
        self, round_: Round, outcome: RoundOutcome, round_seconds: float, now: float
    ) -> list[StreamResult]:
        results = super().finish_round(round_, outcome, round_seconds, now)
        drafting_from = time.monotonic()
        for result in results:
            if result.stream.finish is None:
                draft_at_once(result.stream, now)
        self.boards_seconds += time.monotonic() - drafting_from
        return results


class ReplayFleet:
    """Boards over one planner; the second load finds the estimates and the target warm."""

    def __init__(self, target: TargetModel, rounds: RoundsSection, curve: CostCurve) -> None:
        """Wire a planner; `curve` goes on learning."""
        self.planner = _BoardsPlanner(
            round_settings(rounds),
            policy_named(rounds.policy),
            curve,
            BlockPool(target.num_blocks, target.block_tokens),
        )
        self._target = target
        self._token_bytes = [b"a"] * target.vocab_size
        self._numbers = count(1)
        self.boards: list[DeviceEstimates] = []

    def play(self, load: ReplayLoad) -> ReplayFigures:
        """Read all prompts, then run all streams to their ends; the clock runs in the second."""
        while len(self.boards) < load.num_streams:
            self.boards.append(DeviceEstimates())
        streams = [self._stream(load, board) for board in range(load.num_streams)]
        for stream in streams:
            self.planner.add(stream)
        self._read_prompts(streams)
        playing = _Playing(self.planner, self._target, load.num_streams)
        asyncio.run(playing.engine.run())
        return playing.figures()

    def _stream(self, load: ReplayLoad, board: int) -> Stream:
        estimates = self.boards[board]
        request = StreamRequest(
            prompt_ids=self._prompt(board, load.num_context_tokens),
            sampling=load.sampling,
            mode=load.mode,
            seed=board,
            max_output_tokens=1 + load.num_output_tokens,
            ends_at_context=False,
            end_ids=frozenset(),  # random weights would end streams anywhere
            draft_length=load.draft_length,
            draft_context_tokens=load.num_context_tokens + 1 + load.num_output_tokens,
        )
        stream = Stream(
            number=next(self._numbers),
            device=f"board-{board}",
            request=request,
            text=ByteAssembler(self._token_bytes, frozenset()),
            device_estimates=estimates,
            estimates=estimates.open_stream(),
        )
        stream.board_is_ready = True
        return stream

    def _prompt(self, board: int, num_tokens: int) -> tuple[int, ...]:
        """Another one for each board, so that none finds another's prompt in the cache."""
        chance = np.random.default_rng(board)
        return tuple(chance.integers(len(self._token_bytes), size=num_tokens).tolist())

    def _read_prompts(self, streams: Sequence[Stream]) -> None:
        """All prompts in one long round, which the curve learns nothing from."""
        planner = self.planner
        settings = planner.settings
        num_tokens = sum(stream.num_tokens for stream in streams)
        limits = replace(settings.schedule.limits, max_round_tokens=num_tokens)
        planner.settings = replace(
            settings,
            schedule=replace(settings.schedule, limits=limits),
            prefill_chunk_tokens=num_tokens,
        )
        round_ = planner.start_round(time.monotonic())
        assert round_ is not None
        outcome = self._target.run(round_)
        now = time.monotonic()
        planner.settings = settings
        # As long as the curve says already.
        seconds = planner.curve.round_seconds(round_.num_tokens, round_.context_tokens)
        results = planner.finish_round(round_, outcome, seconds, now)
        assert len(results) == len(streams), f"the cache has room for {len(results)} streams"


class _Playing:
    """One load on its way."""

    def __init__(self, planner: _BoardsPlanner, target: TargetModel, num_streams: int) -> None:
        self.engine = Engine(planner, target, self._deliver, self._report)
        self._num_streams = self._num_open = num_streams
        self._started_at = time.monotonic()
        self._reports: list[RoundReport] = []
        self._turns: list[tuple[int, int]] = []
        self._num_tokens = 0
        self._of_all = (0, 0.0)
        self._stream_seconds: list[float] = []
        self._planner = planner
        self._boards_seconds_before = planner.boards_seconds

    def figures(self) -> ReplayFigures:
        return ReplayFigures(
            num_tokens=self._num_tokens,
            seconds=max(self._stream_seconds),
            num_tokens_of_all=self._of_all[0],
            seconds_of_all=self._of_all[1],
            stream_seconds=tuple(self._stream_seconds),
            turns=tuple(self._turns),
            boards_seconds=self._planner.boards_seconds - self._boards_seconds_before,
            reports=tuple(self._reports),
        )

    def _deliver(self, results: Sequence[StreamResult]) -> None:
        now = time.monotonic()
        if self._num_open == self._num_streams:
            num_tokens = sum(map(_num_tokens, results))
            self._of_all = (self._num_tokens + num_tokens, now - self._started_at)
        for result in results:
            assert result.failure is None, result.failure
            self._num_tokens += _num_tokens(result)
            self._turns.append((result.settled.num_tested, result.settled.num_accepted))
            if result.stream.finish is not None:
                self._num_open -= 1
                self._stream_seconds.append(now - self._started_at)
        if self._num_open == 0:
            self.engine.stop()

    def _report(self, report: RoundReport) -> None:
        self._reports.append(report)


def draft_at_once(stream: Stream, now: float) -> None:
    """The board sends all that it may: its whole window, in `rejection` one chunk.

    A fixed draft length is kept to, whatever the window allows beyond it.
    """
    num_live = len(stream.path.live)
    if stream.request.mode == "rejection":
        num_tokens = 0 if num_live else stream.draft_length
    elif stream.request.draft_length is not None:
        num_tokens = min(stream.window, stream.request.draft_length) - num_live
    else:
        num_tokens = stream.window - num_live
    if num_tokens > 0:
        tokens = _draft(num_tokens, stream.request.mode)
        draft = Extension(stream.path.base, stream.position + num_live, tokens)
        stream.receive_draft(draft, 0.0, now)


@cache
def _draft(num_tokens: int, mode: AcceptanceMode) -> tuple[DraftToken, ...]:
    """Made once for each length: boards cost the verifier nothing but what it does with a draft."""
    row = None
    if mode == "rejection":
        probs = 0.85 ** np.arange(ROW_ENTRIES)
        row = quantise(np.arange(ROW_ENTRIES, dtype=np.intp), probs / probs.sum(), ROW_ENTRIES)
    last = num_tokens - 1
    return tuple(DraftToken(GUESS_ID, row, i == last) for i in range(num_tokens))


def _num_tokens(result: StreamResult) -> int:
    return result.settled.num_accepted + len(result.settled.own_token_ids)
