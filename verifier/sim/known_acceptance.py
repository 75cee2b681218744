"""An estimate that is the truth: for the oracle, which no policy can beat by estimating better."""

from __future__ import annotations

from collections.abc import Sequence

from verifier.streams.acceptance_estimate import AcceptanceEstimate


class KnownAcceptance(AcceptanceEstimate):
    """Learns nothing; there is nothing to learn where acceptance is one constant."""

    __slots__ = ()

    def __init__(self, rate: float) -> None:
        super().__init__(initial_rate=rate)
        self.num_observed = 1 << 30

    def observe_probs(self, accept_probs: Sequence[float]) -> None:
        """See `AcceptanceEstimate`."""

    def observe_counts(self, num_accepted: int, num_rejected: int) -> None:
        """See `AcceptanceEstimate`."""
