"""AWC, DSD's learned window (arXiv 2511.21669): its inputs, a residual network, two modes.

The network's output is clamped to 1 … 12 and smoothed; a stream whose window stays at 1 for two
verdicts is *fused*: the target writes alone. The paper does not say how it comes back; here it does
so after two verdicts at which the smoothed output is 2 or more. In fused mode the network is asked
at every verdict, as before. The paper's inputs are five; a network may take some of ours beside
them, without which it has to guess what a draft costs. This module must never draw or remember a
stream, and knows no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.speculation.goodput import FloatArray, IntArray

BoolArray = npt.NDArray[np.bool_]

PAPER_INPUTS = 5
ALL_INPUTS = 8
MIN_WINDOW, MAX_WINDOW = 1, 12
SMOOTHING = 0.4  # weight of the new output
NUM_TO_SWITCH = 2  # verdicts in a row, into fused mode and out of it
FIRST_WINDOW = 4.0
# A queue, an acceptance rate, 100 ms, 100 ms, the longest window, 50 ms, 100 ms and a round that is
# longer by half are 1.
SCALES = np.array([1.0, 1.0, 0.1, 0.1, float(MAX_WINDOW), 0.05, 0.1, 0.5])
MAX_SCALED = 5.0
SMALLEST_SURVIVAL = 0.02


class AwcInputs(NamedTuple):
    """All [num_streams]."""

    queue_utilisation: FloatArray  # streams that wait, over what a round takes
    acceptance_rates: FloatArray  # recent
    round_trip_seconds: FloatArray
    token_seconds: FloatArray  # recent TPOT
    windows: FloatArray  # before
    draft_token_seconds: FloatArray  # of the board; from here on not of the paper
    round_seconds: FloatArray  # recent, of the verifier
    round_growth: FloatArray  # the part by which a token more of every stream lengthens that

    def scaled(self) -> FloatArray:
        """What a network may see [num_streams, 8]."""
        rows: FloatArray = np.column_stack(self) / SCALES
        return np.clip(rows, 0.0, MAX_SCALED)


class AwcWeights(NamedTuple):
    """Of the network: into `width` numbers, two residual blocks, out of them."""

    into: FloatArray  # [5 to 8, width]
    into_bias: FloatArray  # [width]
    blocks: Sequence[tuple[FloatArray, FloatArray, FloatArray, FloatArray]]  # W1, b1, W2, b2
    out: FloatArray  # [width]
    out_bias: float


class AwcMemory(NamedTuple):
    """What is remembered of streams between verdicts; all [num_streams]."""

    smoothed: FloatArray
    is_fused: BoolArray
    num_against: IntArray  # verdicts in a row for the other mode

    @classmethod
    def of_new(cls, num_streams: int) -> AwcMemory:
        """Of streams without a verdict."""
        return cls(
            np.full(num_streams, FIRST_WINDOW),
            np.zeros(num_streams, dtype=np.bool_),
            np.zeros(num_streams, dtype=np.int64),
        )

    def of(self, which: IntArray) -> AwcMemory:
        """Of some of the streams."""
        return AwcMemory(self.smoothed[which], self.is_fused[which], self.num_against[which])

    def put(self, which: IntArray, news: AwcMemory) -> None:
        """Remember the news of some of the streams."""
        self.smoothed[which] = news.smoothed
        self.is_fused[which] = news.is_fused
        self.num_against[which] = news.num_against

    def windows(self) -> IntArray:
        """What they say; 0: fused."""
        windows: IntArray = np.maximum(np.rint(self.smoothed).astype(np.int64), MIN_WINDOW)
        return np.where(self.is_fused, 0, windows)


def silu(values: FloatArray) -> FloatArray:
    """X * sigmoid(x)."""
    activated: FloatArray = values / (1.0 + np.exp(-values))
    return activated


def network_windows(weights: AwcWeights, scaled: FloatArray) -> FloatArray:
    """The raw windows of scaled inputs [num_streams, 5 to 8]: it takes the first of them."""
    hidden = scaled[:, : len(weights.into)] @ weights.into + weights.into_bias
    for first, first_bias, second, second_bias in weights.blocks:
        hidden = hidden + silu(hidden @ first + first_bias) @ second + second_bias
    raw: FloatArray = hidden @ weights.out + weights.out_bias
    return raw


def next_memory(weights: AwcWeights, memory: AwcMemory, inputs: AwcInputs) -> AwcMemory:
    """After another verdict of these streams; `AwcMemory.windows` has their windows."""
    raw = np.clip(network_windows(weights, inputs.scaled()), MIN_WINDOW, MAX_WINDOW)
    smoothed = SMOOTHING * raw + (1.0 - SMOOTHING) * memory.smoothed
    is_low = np.rint(smoothed) <= MIN_WINDOW
    num_against = np.where(is_low != memory.is_fused, memory.num_against + 1, 0)
    switches = num_against >= NUM_TO_SWITCH
    return AwcMemory(smoothed, memory.is_fused ^ switches, np.where(switches, 0, num_against))


def depths_ahead(windows: IntArray, inputs: AwcInputs) -> IntArray:
    """How far boards of streams that never wait draft, so that rounds find a whole window there.

    Rounds go on while a verdict and the drafts that answer it travel, and the board drafts all that
    time: each round takes what is drafted meanwhile, the window at most, and one token more. What
    would survive less often than one time in fifty is not drafted. 0 where the window is.
    """
    round_seconds = np.maximum(inputs.round_seconds, 1e-9)
    drafted = round_seconds / np.maximum(inputs.draft_token_seconds, 1e-9)
    rounds_away = inputs.round_trip_seconds / round_seconds
    on_the_way = 1.0 + np.minimum(rounds_away, 1.0) + rounds_away
    wanted = np.ceil((np.minimum(windows, drafted) + 1.0) * on_the_way)
    worthwhile = np.log(SMALLEST_SURVIVAL) / np.log(np.clip(inputs.acceptance_rates, 0.01, 0.99))
    depths = np.maximum(np.minimum(wanted, worthwhile), windows + 1.0)
    return np.where(windows > 0, depths, 0.0).astype(np.int64)
