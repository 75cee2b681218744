"""What a load test has measured: tokens of each board, latencies, and errors by their sentence.

Pure: `now` is an argument. Memory is bounded however long the test runs.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from edge_agent.fleet.latency_histogram import LatencyHistogram
from edge_agent.generation.counts import Counts
from shared.speculation.fairness import jain_index

# Sentences may carry numbers, and a bad verifier may make up any: the rest counts as one.
MAX_SENTENCES = 100
OTHER_ERRORS = "other errors"


class Latency(msgspec.Struct, frozen=True):
    """Quantiles of one kind of wait, in seconds; None where nothing was measured."""

    num_samples: int
    p50: float | None
    p99: float | None

    @classmethod
    def of(cls, histogram: LatencyHistogram) -> Latency:
        return cls(histogram.num_samples, histogram.quantile(0.5), histogram.quantile(0.99))


class FleetReport(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a load test."""

    seconds: float  # that were measured: after the ramp-up, unless it ended before
    num_boards: int
    num_connected: int  # when the measurement ended
    num_streams_finished: int
    output_tokens: int
    tokens_per_second: float
    board_tokens_per_second: dict[str, float]  # p1, p10, p50, p90, p99 over boards
    jain_fairness: float  # of tokens per second over boards
    drafted_tokens: int
    accepted_tokens: int
    acceptance: float | None  # survived / (survived + rejections), over positions reached
    first_token: Latency  # Open to first token
    verdict: Latency  # Draft sent to the verdict that decides its first token
    pause: Latency  # from one verdict of a stream to the next: what a reader sees
    errors: dict[str, int]  # by sentence, most frequent first; since the start


class FleetTally:
    """Counts while a fleet runs; owned by its event loop."""

    def __init__(self, num_boards: int, now: float) -> None:
        self.num_boards = num_boards
        self.num_connected = 0
        self.errors: Counter[str] = Counter()
        self.restart(now)

    def restart(self, now: float) -> None:
        """Measure from now on, and forget all but the errors."""
        self.started_at = now
        self.output_tokens = 0
        self.num_streams_finished = 0
        self.counts = Counts()
        self.tokens_of_board = [0] * self.num_boards
        self.first_token = LatencyHistogram()
        self.verdict = LatencyHistogram()
        self.pause = LatencyHistogram()

    def record_tokens(self, board: int, num_tokens: int) -> None:
        """A verdict brought this many output tokens."""
        self.tokens_of_board[board] += num_tokens
        self.output_tokens += num_tokens

    def record_failure(self, sentence: str) -> None:
        """A stream or a connection failed."""
        is_known = sentence in self.errors or len(self.errors) < MAX_SENTENCES
        self.errors[sentence if is_known else OTHER_ERRORS] += 1

    def report(self, now: float) -> FleetReport:
        """All figures so far."""
        seconds = max(now - self.started_at, 1e-9)
        speeds = sorted(tokens / seconds for tokens in self.tokens_of_board)
        counts = self.counts
        reached = counts.survived_tokens + counts.rejections
        return FleetReport(
            seconds=seconds,
            num_boards=self.num_boards,
            num_connected=self.num_connected,
            num_streams_finished=self.num_streams_finished,
            output_tokens=self.output_tokens,
            tokens_per_second=self.output_tokens / seconds,
            board_tokens_per_second={
                f"p{percent}": _at(speeds, percent) for percent in (1, 10, 50, 90, 99)
            },
            jain_fairness=jain_index(speeds),
            drafted_tokens=counts.drafted_tokens,
            accepted_tokens=counts.accepted_tokens,
            acceptance=counts.survived_tokens / reached if reached else None,
            first_token=Latency.of(self.first_token),
            verdict=Latency.of(self.verdict),
            pause=Latency.of(self.pause),
            errors=dict(self.errors.most_common()),
        )


def _at(ascending: list[float], percent: int) -> float:
    """The smallest value that `percent` % of the values do not exceed."""
    rank = -(-percent * len(ascending) // 100)
    return ascending[max(rank - 1, 0)]
