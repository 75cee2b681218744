"""AWC, DSD's learned window (arXiv 2511.21669): its inputs, a residual network, two modes.

The network's output is clamped to 1 … 12 and smoothed; a stream whose window stays at 1 for two
verdicts is *fused*: the target writes alone. The paper does not say how it comes back; here it does
so after two verdicts at which the smoothed output is 2 or more. In fused mode the network is asked
at every verdict, as before. The paper's inputs are five; a network may take two of ours beside
them, without which it has to guess what a draft costs. This module must never draw, and knows no
file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from shared.speculation.goodput import FloatArray, IntArray

PAPER_INPUTS = 5
ALL_INPUTS = 7
MIN_WINDOW, MAX_WINDOW = 1, 12
SMOOTHING = 0.4  # weight of the new output
NUM_TO_SWITCH = 2  # verdicts in a row, into fused mode and out of it
FIRST_WINDOW = 4.0
# A queue, an acceptance rate, 100 ms, 100 ms, the longest window, 50 ms and 100 ms are 1.
SCALES = np.array([1.0, 1.0, 0.1, 0.1, float(MAX_WINDOW), 0.05, 0.1])
MAX_SCALED = 5.0


class AwcInputs(NamedTuple):
    """All [num_streams]."""

    queue_utilisation: FloatArray  # streams that wait, over what a round takes
    acceptance_rates: FloatArray  # recent
    round_trip_seconds: FloatArray
    token_seconds: FloatArray  # recent TPOT
    windows: FloatArray  # before
    draft_token_seconds: FloatArray  # of the board; from here on not of the paper
    round_seconds: FloatArray  # recent, of the verifier

    def scaled(self) -> FloatArray:
        """What a network may see [num_streams, 7]."""
        rows: FloatArray = np.column_stack(self) / SCALES
        return np.clip(rows, 0.0, MAX_SCALED)


class AwcWeights(NamedTuple):
    """Of the network: into `width` numbers, two residual blocks, out of them."""

    into: FloatArray  # [5 or 7, width]
    into_bias: FloatArray  # [width]
    blocks: Sequence[tuple[FloatArray, FloatArray, FloatArray, FloatArray]]  # W1, b1, W2, b2
    out: FloatArray  # [width]
    out_bias: float


class AwcState:
    """What is remembered of each stream between verdicts."""

    def __init__(self, num_streams: int) -> None:
        self.smoothed = np.full(num_streams, FIRST_WINDOW)
        self.is_fused = np.zeros(num_streams, dtype=np.bool_)
        self.num_against = np.zeros(num_streams, dtype=np.int64)  # verdicts for the other mode


def silu(values: FloatArray) -> FloatArray:
    """X * sigmoid(x)."""
    activated: FloatArray = values / (1.0 + np.exp(-values))
    return activated


def network_windows(weights: AwcWeights, scaled: FloatArray) -> FloatArray:
    """The raw windows of scaled inputs [num_streams, 5 or 7]: it takes the first of them."""
    hidden = scaled[:, : len(weights.into)] @ weights.into + weights.into_bias
    for first, first_bias, second, second_bias in weights.blocks:
        hidden = hidden + silu(hidden @ first + first_bias) @ second + second_bias
    raw: FloatArray = hidden @ weights.out + weights.out_bias
    return raw


def next_windows(
    weights: AwcWeights, state: AwcState, which: IntArray, inputs: AwcInputs
) -> IntArray:
    """The next window of the streams `which`, 0 where one is fused; moves the state on."""
    raw = np.clip(network_windows(weights, inputs.scaled()), MIN_WINDOW, MAX_WINDOW)
    smoothed = SMOOTHING * raw + (1.0 - SMOOTHING) * state.smoothed[which]
    windows = np.rint(smoothed).astype(np.int64)
    is_fused = state.is_fused[which]
    is_against = np.where(is_fused, windows > MIN_WINDOW, windows <= MIN_WINDOW)
    num_against = np.where(is_against, state.num_against[which] + 1, 0)
    switches = num_against >= NUM_TO_SWITCH
    is_fused = is_fused ^ switches
    state.smoothed[which] = smoothed
    state.is_fused[which] = is_fused
    state.num_against[which] = np.where(switches, 0, num_against)
    return np.where(is_fused, 0, np.maximum(windows, MIN_WINDOW))
