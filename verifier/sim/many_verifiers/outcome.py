"""What a run of many verifiers came to."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from shared.speculation.goodput import FloatArray, IntArray
from verifier.sim.many_verifiers.setting import ManySetting
from verifier.sim.many_verifiers.state import Targets

NUM_WINDOWS = 17
_SEEN = ("num_right", "num_wrong")


class History(msgspec.Struct, frozen=True):
    """What happened in each bin of time, the warm-up's too."""

    seconds: tuple[float, ...]  # where bins begin
    tokens_per_second: tuple[float, ...]  # of all devices together
    utilisation: tuple[float, ...]
    window_counts: tuple[tuple[int, ...], ...]  # of each bin as `ManyOutcome.window_counts`


class ManyOutcome(msgspec.Struct, frozen=True):
    """After the warm-up; latencies as devices see them."""

    requests_per_second: float
    tokens_per_second: float  # of all devices together
    device_tokens_per_second: float  # geometric mean over devices, while they have a request open
    first_token_seconds: float  # mean (TTFT)
    first_token_p50_seconds: float
    first_token_p95_seconds: float
    first_token_p99_seconds: float
    token_seconds: float  # mean over requests (TPOT)
    token_p50_seconds: float
    token_p95_seconds: float
    token_p99_seconds: float
    request_seconds: float  # mean, from asking to the last token
    utilisation: float  # part of the time in which verifiers run rounds
    utilisation_of_kinds: dict[str, float]  # by `TargetKind.name`
    acceptance: float | None  # of tested positions that were reached
    window_counts: tuple[int, ...]  # stream-rounds by tested tokens, 0 … 16 and more
    num_stream_rounds: int
    history: History


class Tally:
    """Sums of a run, or of its part."""

    def __init__(self, setting: ManySetting) -> None:
        self._since, self._until = setting.warm_up_seconds, setting.seconds
        self.seconds = setting.seconds - setting.warm_up_seconds
        self._bin_seconds = setting.bin_seconds
        self._num_bins = int(np.ceil(setting.seconds / setting.bin_seconds))
        self.device_tokens = np.zeros(setting.num_devices)
        self.open_seconds = np.zeros(setting.num_devices)
        self.windows = np.zeros(NUM_WINDOWS, dtype=np.int64)
        self.binned_windows = np.zeros((self._num_bins, NUM_WINDOWS), dtype=np.int64)
        self.binned_tokens = np.zeros(self._num_bins)
        # Of each verifier apart: it is played by one part, so that sums do not hang on the parts.
        self.binned_busy_seconds = np.zeros((len(setting.targets), self._num_bins))
        self.num_right = self.num_wrong = 0
        self.first_tokens: list[FloatArray] = []
        self.token_seconds: list[FloatArray] = []
        self.requests: list[FloatArray] = []

    def count_round(
        self,
        which: IntArray,
        now: FloatArray,
        num_tokens: IntArray,
        num_tested: IntArray,
        num_right: IntArray,
    ) -> None:
        """Streams got tokens at these times."""
        counts = now >= self._since
        self.device_tokens[which[counts]] += num_tokens[counts]
        windows = np.minimum(num_tested, NUM_WINDOWS - 1)
        self.windows += np.bincount(windows[counts], minlength=NUM_WINDOWS)
        is_within = now < self._until
        bins = (now[is_within] / self._bin_seconds).astype(np.int64)
        places = bins * NUM_WINDOWS + windows[is_within]
        self.binned_windows += np.bincount(places, minlength=self.binned_windows.size).reshape(
            self.binned_windows.shape
        )
        self.binned_tokens += np.bincount(
            bins, weights=num_tokens[is_within], minlength=self._num_bins
        )
        self.num_right += int(num_right[counts].sum())
        self.num_wrong += int((num_right < num_tested)[counts].sum())

    def count_busy(self, targets: IntArray, ended_at: FloatArray, seconds: FloatArray) -> None:
        """Verifiers ran a round of so many seconds, each at most one."""
        until = np.minimum(ended_at, self._until)
        within = np.maximum(seconds - (ended_at - until), 0.0)
        bins = np.minimum((until / self._bin_seconds).astype(np.int64), self._num_bins - 1)
        here = np.minimum(within, until - bins * self._bin_seconds)
        self.binned_busy_seconds[targets, bins] += here
        self.binned_busy_seconds[targets, np.maximum(bins - 1, 0)] += within - here

    def count_open(self, which: IntArray, since: FloatArray, until: FloatArray) -> None:
        """Requests were open between these times."""
        self.open_seconds[which] += np.maximum(until - np.maximum(since, self._since), 0.0)

    def count_finished(
        self, asked_at: FloatArray, first_at: FloatArray, last_at: FloatArray, tokens: IntArray
    ) -> None:
        """Requests whose last token reached the device."""
        counts = last_at >= self._since
        self.first_tokens.append((first_at - asked_at)[counts])
        pauses = (last_at - first_at) / np.maximum(tokens - 1, 1)
        self.token_seconds.append(pauses[counts])
        self.requests.append((last_at - asked_at)[counts])

    def device_arrays(self) -> list[FloatArray]:
        """What is kept of each device."""
        return [self.device_tokens, self.open_seconds]


def outcome_of(tallies: Sequence[Tally], setting: ManySetting, targets: Targets) -> ManyOutcome:
    """Of all parts together; devices that never had a request open are left out.

    What is kept of devices and verifiers, all parts know. Latencies are sorted, so that their sums
    do not hang on the parts.
    """
    first, pauses, whole = (
        np.sort(np.concatenate([np.empty(0), *(x for t in tallies for x in getattr(t, name))]))
        for name in ("first_tokens", "token_seconds", "requests")
    )
    device_tokens, open_seconds = tallies[0].device_tokens, tallies[0].open_seconds
    served = (open_seconds > 0.0) & (device_tokens > 0.0)
    speeds = device_tokens[served] / open_seconds[served]
    num_right, num_wrong = (sum(getattr(t, name) for t in tallies) for name in _SEEN)
    windows = np.sum([tally.windows for tally in tallies], axis=0)
    seconds = tallies[0].seconds
    seen = num_right + num_wrong
    busy = targets.busy_seconds / np.maximum(targets.now, 1e-9)
    return ManyOutcome(
        requests_per_second=len(whole) / seconds,
        tokens_per_second=float(device_tokens.sum()) / seconds,
        device_tokens_per_second=float(np.exp(np.log(speeds).mean())) if len(speeds) else 0.0,
        first_token_seconds=_mean(first),
        first_token_p50_seconds=_quantile(first, 0.5),
        first_token_p95_seconds=_quantile(first, 0.95),
        first_token_p99_seconds=_quantile(first, 0.99),
        token_seconds=_mean(pauses),
        token_p50_seconds=_quantile(pauses, 0.5),
        token_p95_seconds=_quantile(pauses, 0.95),
        token_p99_seconds=_quantile(pauses, 0.99),
        request_seconds=_mean(whole),
        utilisation=float(busy.mean()),
        utilisation_of_kinds=_of_kinds(setting, busy),
        acceptance=num_right / seen if seen else None,
        window_counts=tuple(windows.tolist()),
        num_stream_rounds=int(windows.sum()),
        history=_history(tallies, setting),
    )


def _of_kinds(setting: ManySetting, busy: FloatArray) -> dict[str, float]:
    """Means over the verifiers of each kind."""
    names = [kind.name for kind in setting.targets]
    return {
        name: float(busy[[other == name for other in names]].mean())
        for name in dict.fromkeys(names)
    }


def _history(tallies: Sequence[Tally], setting: ManySetting) -> History:
    windows, tokens, busy = (
        np.sum([getattr(tally, name) for tally in tallies], axis=0)
        for name in ("binned_windows", "binned_tokens", "binned_busy_seconds")
    )
    begins = setting.bin_seconds * np.arange(len(tokens))
    seconds = np.minimum(setting.bin_seconds, setting.seconds - begins)  # the last may be shorter
    return History(
        seconds=tuple(begins.tolist()),
        tokens_per_second=tuple((tokens / seconds).tolist()),
        utilisation=tuple((busy / seconds).mean(axis=0).tolist()),
        window_counts=tuple(map(tuple, windows.tolist())),
    )


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if len(values) else 0.0


def _quantile(values: FloatArray, part: float) -> float:
    return float(np.quantile(values, part)) if len(values) else 0.0
