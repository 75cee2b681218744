"""How an arm kept the SLOs of a world: counted alike for all, when a round commits tokens."""

from __future__ import annotations

import msgspec

from verifier.promises.token_deadlines import TokenDeadlines
from verifier.sim.record import quantile

# A stream's SLO is kept if so many of its tokens are in time.
KEPT_PART = 0.95


class KeptSlos(msgspec.Struct, frozen=True):
    """One arm in one world."""

    tokens_per_second: float
    in_time_per_second: float  # tokens in time, the first ones of streams left out
    in_time: float  # part of the tokens behind the first ones
    in_time_by_class: dict[str, float]
    streams_kept: float  # part of the streams that began, with `KEPT_PART` of their tokens in time
    first_token_p50_seconds: float
    first_token_p95_seconds: float  # where none came, up to the end


class _Stream:
    def __init__(self, slo_class: str, slo_seconds: float, opened_at: float) -> None:
        self.slo_class = slo_class
        self.opened_at = opened_at
        self.first_at: float | None = None
        self.deadlines = TokenDeadlines(slo_seconds)
        self.num_in_time = self.num_late = 0


class SloCount:
    """Counts the tokens of one run."""

    def __init__(self) -> None:
        self._streams: dict[int, _Stream] = {}
        self._num_tokens = 0

    def open(self, number: int, slo_class: str, slo_seconds: float, now: float) -> None:
        """A stream asks for its start."""
        self._streams[number] = _Stream(slo_class, slo_seconds, now)

    def take(self, number: int, num_tokens: int, now: float) -> None:
        """A round committed tokens of a stream."""
        stream = self._streams[number]
        if num_tokens and stream.first_at is None:
            stream.first_at = now
        num_in_time, num_late = stream.deadlines.take(num_tokens, now)
        stream.num_in_time += num_in_time
        stream.num_late += num_late
        self._num_tokens += num_tokens

    def due_at(self, number: int) -> float:
        """Of its next token; of a first one as if a token had come when it was opened."""
        stream = self._streams[number]
        due_at = stream.deadlines.due_at
        return stream.opened_at + stream.deadlines.slo_seconds if due_at is None else due_at

    def kept(self, seconds: float) -> KeptSlos:
        """The outcome of a run of so many seconds."""
        streams = list(self._streams.values())
        waits = [
            (seconds if one.first_at is None else one.first_at) - one.opened_at for one in streams
        ]
        begun = [one for one in streams if one.num_in_time + one.num_late]
        classes = sorted({one.slo_class for one in streams})
        return KeptSlos(
            tokens_per_second=self._num_tokens / seconds,
            in_time_per_second=sum(one.num_in_time for one in begun) / seconds,
            in_time=_in_time(begun),
            in_time_by_class={
                name: _in_time([one for one in begun if one.slo_class == name]) for name in classes
            },
            streams_kept=sum(_in_time([one]) >= KEPT_PART for one in begun) / max(len(begun), 1),
            first_token_p50_seconds=quantile(waits, 0.5) or 0.0,
            first_token_p95_seconds=quantile(waits, 0.95) or 0.0,
        )


def _in_time(streams: list[_Stream]) -> float:
    num_in_time = sum(one.num_in_time for one in streams)
    num_tokens = num_in_time + sum(one.num_late for one in streams)
    return num_in_time / num_tokens if num_tokens else 0.0
