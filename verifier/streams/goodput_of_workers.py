"""A device's goodput where its streams may be at several workers, each with rounds of its own.

What is fair is a device's tokens per second over all workers; a policy reckons in tokens per round
of its own worker. So each worker sees the device's whole rate in units of its own rounds: with all
streams at one worker that is the plain estimate.
"""

from __future__ import annotations

from verifier.streams.estimates import MIN_TOKENS_PER_ROUND, GoodputEstimate


class GoodputAtWorker(GoodputEstimate):
    """What the rounds of one worker gave a device, and what it is told of all of them."""

    __slots__ = ("_of_device", "num_streams")

    def __init__(self, of_device: GoodputOfWorkers) -> None:
        super().__init__()
        self._of_device = of_device
        self.num_streams = 0  # of the device, at this worker

    @property
    def tokens_per_round(self) -> float:
        """Tokens that the device gets at all workers in the time of a round here."""
        return max(self._tokens_per_round + self._elsewhere(), MIN_TOKENS_PER_ROUND)

    @property
    def steady_tokens_per_round(self) -> float:
        """The same, for what must not follow chance."""
        return max(self._steady_tokens_per_round + self._elsewhere(), MIN_TOKENS_PER_ROUND)

    @property
    def own_tokens_per_round(self) -> float:
        """What the rounds here give."""
        return self._tokens_per_round

    @property
    def own_tokens_per_second(self) -> float | None:
        """What the rounds here give; None before the first."""
        return super().tokens_per_second

    @property
    def tokens_per_second(self) -> float | None:
        """Of all workers."""
        return self._of_device.tokens_per_second

    def _elsewhere(self) -> float:
        others = self._of_device.tokens_per_second_beside(self)
        return others * self._round_seconds if others else 0.0


class GoodputOfWorkers(GoodputEstimate):
    """The sum over workers; what a worker's rounds gave counts while the device has streams there.

    Those without a stream keep what they knew, for when the device is back.
    """

    __slots__ = ("_at_workers",)

    def __init__(self) -> None:
        super().__init__()
        self._at_workers: dict[int, GoodputAtWorker] = {}

    def at(self, worker: int) -> GoodputAtWorker:
        """The device's estimate for streams at this worker."""
        if worker not in self._at_workers:
            self._at_workers[worker] = GoodputAtWorker(self)
        return self._at_workers[worker]

    @property
    def tokens_per_round(self) -> float:
        """Over rounds of all workers that serve the device."""
        return max(
            sum([part.own_tokens_per_round for part in self._serving()]), MIN_TOKENS_PER_ROUND
        )

    @property
    def tokens_per_second(self) -> float | None:
        """Output tokens of late; None before the first round."""
        known = [part.own_tokens_per_second for part in self._serving()]
        rates = [rate for rate in known if rate is not None]
        return sum(rates) if rates else None

    def tokens_per_second_beside(self, part: GoodputAtWorker) -> float:
        """What all other workers give."""
        if len(self._at_workers) == 1:
            return 0.0
        others = [other for other in self._at_workers.values() if other is not part]
        return sum([other.own_tokens_per_second or 0.0 for other in others if other.num_streams])

    def _serving(self) -> list[GoodputAtWorker]:
        parts = list(self._at_workers.values())
        return [part for part in parts if part.num_streams] or parts
