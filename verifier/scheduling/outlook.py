"""What policies look at, gathered from streams and the cost curve, and what they keep with them.

This module must never decide anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import numpy as np

from shared.speculation.goodput import FloatArray
from verifier.cost_curve.curve import CostCurve
from verifier.policies import OpenStreams, Outlook, RoundTimes
from verifier.scheduling.gathered import Gathered
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
    streams: Gathered,
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
        _total_weight(round_.devices, weights),
    )


def _total_weight(devices: AbstractSet[str], weights: Mapping[str, float]) -> float:
    if not weights:
        return USUAL_WEIGHT * len(devices)
    return sum([weights.get(device, USUAL_WEIGHT) for device in devices])


def keep_memories(streams: Sequence[Stream], memories: FloatArray | None) -> None:
    """What a policy wants to find with these streams at its next plan; None: nothing."""
    if memories is not None:
        for stream, memory in zip(streams, memories.tolist(), strict=True):
            stream.estimates.policy_memory = memory


def _open_streams(
    streams: Gathered, max_lengths: Sequence[int], weights: Mapping[str, float]
) -> OpenStreams:
    devices, num_streams = streams.devices, len(streams.devices)
    num_siblings = np.ones(num_streams, dtype=np.int64)
    if len(set(devices)) < num_streams:
        num_of_device = Counter(devices)
        num_siblings[:] = [num_of_device[device] for device in devices]
    of_devices = np.full(num_streams, USUAL_WEIGHT)
    if weights:
        of_devices[:] = [weights.get(device, USUAL_WEIGHT) for device in devices]
    return OpenStreams(
        acceptance_rates=streams.acceptance_rates,
        num_observed=streams.num_observed,
        goodputs=streams.goodputs,
        steady_goodputs=streams.steady_goodputs,
        draft_token_seconds=streams.draft_token_seconds,
        weights=of_devices,
        best_chances=streams.best_chances,
        waits=streams.waits,
        round_trip_seconds=streams.round_trip_seconds,
        memories=streams.memories,
        num_siblings=num_siblings,
        max_lengths=np.array(max_lengths, dtype=np.int64),
    )
