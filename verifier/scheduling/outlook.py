"""What policies look at, gathered from streams and the cost curve.

This module must never decide anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import numpy as np

from verifier.cost_curve.curve import CostCurve
from verifier.policies import OpenStreams, Outlook, RoundTimes
from verifier.streams.stream import Stream

# Of a device of which the operator says nothing.
USUAL_WEIGHT = 1.0


class Pace(NamedTuple):
    """How rounds have followed each other."""

    mean_seconds: float | None  # from one to the next, smoothed; None: there was none yet
    num_rounds: int
    between_seconds: float = 0.0  # of that, beside the rounds, where nothing is waited for


NO_PACE = Pace(None, 0)


class BareRound(NamedTuple):
    """A round as it is without the draft tokens that are decided about."""

    num_tokens: int
    context_tokens: float
    most_drafts: int  # that it has room for
    devices: AbstractSet[str]


def outlook_on(
    round_: BareRound,
    streams: Sequence[Stream],
    max_lengths: Sequence[int],
    curve: CostCurve,
    pace: Pace,
    weights: Mapping[str, float],
) -> Outlook:
    """What is known of these streams, of each with the longest draft that it can use."""
    counts = round_.num_tokens + np.arange(max(round_.most_drafts, 0) + 1)
    seconds_with = curve.rounds_seconds(counts, round_.context_tokens)
    mean_seconds = float(seconds_with[0]) if pace.mean_seconds is None else pace.mean_seconds
    return Outlook(
        _open_streams(streams, max_lengths, weights),
        RoundTimes(seconds_with, mean_seconds, pace.num_rounds, pace.between_seconds),
        sum([weights.get(device, USUAL_WEIGHT) for device in round_.devices]),
    )


def _open_streams(
    streams: Sequence[Stream], max_lengths: Sequence[int], weights: Mapping[str, float]
) -> OpenStreams:
    num_of_device = Counter([stream.device for stream in streams])
    figures = np.array(
        [
            (
                stream.estimates.acceptance.rate,
                stream.estimates.acceptance.num_observed,
                stream.estimates.goodput.tokens_per_round,
                stream.estimates.goodput.steady_tokens_per_round,
                stream.estimates.speed.draft_token_seconds or 0.0,
                weights.get(stream.device, USUAL_WEIGHT),
                stream.estimates.chances.best_chance,
                stream.request.mode == "rejection",
            )
            for stream in streams
        ],
        dtype=np.float64,
    ).reshape(len(streams), 8)
    return OpenStreams(
        acceptance_rates=figures[:, 0],
        num_observed=figures[:, 1],
        goodputs=figures[:, 2],
        steady_goodputs=figures[:, 3],
        draft_token_seconds=figures[:, 4],
        weights=figures[:, 5],
        best_chances=figures[:, 6],
        waits=figures[:, 7] > 0.0,
        num_siblings=np.array([num_of_device[s.device] for s in streams], dtype=np.int64),
        max_lengths=np.array(max_lengths, dtype=np.int64),
    )
