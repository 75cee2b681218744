"""Open streams as a policy sees them, from a line for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from shared.speculation.goodput import FloatArray
from verifier.policies import MEMORY_LENGTH, OpenStreams, Outlook, RoundTimes


class Share(NamedTuple):
    """What a policy is told of one stream."""

    rate: float = 0.7
    goodput: float = 2.0
    weight: float = 1.0
    max_length: int = 16
    num_siblings: int = 1
    num_observed: int = 100
    draft_token_seconds: float = 0.01
    best_chance: float = 0.0  # its board does not say how sure it is
    waits: bool = False
    round_trip_seconds: float = 0.02


def shares_of(streams: Sequence[Share]) -> OpenStreams:
    columns = np.array(streams, dtype=np.float64).reshape(len(streams), len(Share._fields)).T
    figures = dict(zip(Share._fields, columns, strict=True))
    return OpenStreams(
        acceptance_rates=figures["rate"],
        num_observed=figures["num_observed"],
        goodputs=figures["goodput"],
        steady_goodputs=figures["goodput"],
        weights=figures["weight"],
        num_siblings=figures["num_siblings"].astype(np.int64),
        max_lengths=figures["max_length"].astype(np.int64),
        draft_token_seconds=figures["draft_token_seconds"],
        best_chances=figures["best_chance"],
        waits=figures["waits"] > 0.0,
        round_trip_seconds=figures["round_trip_seconds"],
        memories=np.zeros((len(streams), MEMORY_LENGTH)),
    )


def outlook_of(streams: Sequence[Share], seconds_with: FloatArray, num_rounds: int = 1) -> Outlook:
    """One stream a device, where rounds follow each other without a pause and without drafts."""
    times = RoundTimes(seconds_with, float(seconds_with[0]), num_rounds)
    shares = shares_of(streams)
    return Outlook(shares, times, float(shares.shares.sum()))
