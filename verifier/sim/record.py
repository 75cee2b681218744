"""What a run did, in bins of time: sums that the outcome is made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class RunRecord:
    """Arrays over bins and boards."""

    def __init__(self, num_boards: int, seconds: float, bin_seconds: float) -> None:
        self.bin_seconds = bin_seconds
        self.num_bins = max(int(np.ceil(seconds / bin_seconds - 1e-9)), 1)
        shape = (self.num_bins, num_boards)
        self.tokens = np.zeros(shape)  # output
        self.tested = np.zeros(shape)  # draft tokens
        self.accepted = np.zeros(shape)
        self.rejections = np.zeros(shape)  # rounds in which a tested token differed
        self.drafted_rounds = np.zeros(shape)  # that tested any of the board's
        self.stream_seconds = np.zeros(shape)  # in which streams of the board were open
        self.stream_rounds = np.zeros(shape)
        self.rounds = np.zeros(self.num_bins)
        self.round_tokens = np.zeros(self.num_bins)
        self.round_seconds = np.zeros(self.num_bins)
        self.first_token_seconds: list[list[float]] = [[] for _ in range(num_boards)]
        self.pauses: list[list[float]] = [[] for _ in range(num_boards)]

    def bin_of(self, now: float) -> int:
        """The bin of a moment."""
        return min(int(now / self.bin_seconds), self.num_bins - 1)

    def count_round(self, now: float, num_tokens: int, seconds: float) -> None:
        """A round is over."""
        which = self.bin_of(now)
        self.rounds[which] += 1
        self.round_tokens[which] += num_tokens
        self.round_seconds[which] += seconds

    def count_verdict(
        self, now: float, board: int, num_tokens: int, num_tested: int, num_accepted: int
    ) -> None:
        """A round gave a stream of the board something."""
        where = self.bin_of(now), board
        self.tokens[where] += num_tokens
        self.tested[where] += num_tested
        self.accepted[where] += num_accepted
        self.rejections[where] += num_accepted < num_tested
        self.drafted_rounds[where] += bool(num_tested)
        self.stream_rounds[where] += 1

    def count_open(self, board: int, since: float, until: float) -> None:
        """A stream of the board was open from a moment to another."""
        for which in range(self.bin_of(since), self.bin_of(until) + 1):
            start = which * self.bin_seconds
            overlap = min(until, start + self.bin_seconds) - max(since, start)
            self.stream_seconds[which, board] += max(overlap, 0.0)


def quantile(values: Sequence[float], part: float) -> float | None:
    """The value that a part of the values do not exceed; None of none."""
    return float(np.quantile(values, part)) if values else None
