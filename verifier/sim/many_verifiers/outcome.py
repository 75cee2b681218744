"""What a run of many verifiers came to."""

from __future__ import annotations

import msgspec
import numpy as np

from shared.speculation.goodput import FloatArray, IntArray
from verifier.sim.many_verifiers.setting import ManySetting
from verifier.sim.many_verifiers.state import Devices, Targets

NUM_WINDOWS = 17


class ManyOutcome(msgspec.Struct, frozen=True):
    """After the warm-up; latencies as devices see them."""

    requests_per_second: float
    tokens_per_second: float  # of all devices together
    device_tokens_per_second: float  # geometric mean over devices, while they have a request open
    first_token_seconds: float  # mean (TTFT)
    first_token_p95_seconds: float
    token_seconds: float  # mean over requests (TPOT)
    token_p95_seconds: float
    request_seconds: float  # mean, from asking to the last token
    utilisation: float  # part of the time in which verifiers run rounds
    acceptance: float | None  # of tested positions that were reached
    window_counts: tuple[int, ...]  # stream-rounds by tested tokens, 0 … 16 and more
    num_stream_rounds: int


class Tally:
    """Sums of a run."""

    def __init__(self, setting: ManySetting) -> None:
        self._since = setting.warm_up_seconds
        self._seconds = setting.seconds - setting.warm_up_seconds
        self.device_tokens = np.zeros(setting.num_devices)
        self._open_seconds = np.zeros(setting.num_devices)
        self._windows = np.zeros(NUM_WINDOWS, dtype=np.int64)
        self._num_right = self._num_wrong = 0
        self._first_tokens: list[FloatArray] = []
        self._token_seconds: list[FloatArray] = []
        self._requests: list[FloatArray] = []

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
        windows = np.minimum(num_tested[counts], NUM_WINDOWS - 1)
        self._windows += np.bincount(windows, minlength=NUM_WINDOWS)
        self._num_right += int(num_right[counts].sum())
        self._num_wrong += int((num_right < num_tested)[counts].sum())

    def count_open(self, which: IntArray, since: FloatArray, until: FloatArray) -> None:
        """Requests were open between these times."""
        self._open_seconds[which] += np.maximum(until - np.maximum(since, self._since), 0.0)

    def count_finished(
        self, asked_at: FloatArray, first_at: FloatArray, last_at: FloatArray, tokens: IntArray
    ) -> None:
        """Requests whose last token reached the device."""
        counts = last_at >= self._since
        self._first_tokens.append((first_at - asked_at)[counts])
        pauses = (last_at - first_at) / np.maximum(tokens - 1, 1)
        self._token_seconds.append(pauses[counts])
        self._requests.append((last_at - asked_at)[counts])

    def outcome(self, devices: Devices, targets: Targets) -> ManyOutcome:
        """All of it; devices that never had a request open are left out."""
        first, pauses, whole = (
            np.concatenate([*parts, np.empty(0)])
            for parts in (self._first_tokens, self._token_seconds, self._requests)
        )
        served = (self._open_seconds > 0.0) & (self.device_tokens > 0.0)
        speeds = self.device_tokens[served] / self._open_seconds[served]
        seen = self._num_right + self._num_wrong
        return ManyOutcome(
            requests_per_second=len(whole) / self._seconds,
            tokens_per_second=float(self.device_tokens.sum()) / self._seconds,
            device_tokens_per_second=float(np.exp(np.log(speeds).mean())) if len(speeds) else 0.0,
            first_token_seconds=_mean(first),
            first_token_p95_seconds=_quantile(first, 0.95),
            token_seconds=_mean(pauses),
            token_p95_seconds=_quantile(pauses, 0.95),
            request_seconds=_mean(whole),
            utilisation=float((targets.busy_seconds / np.maximum(targets.now, 1e-9)).mean()),
            acceptance=self._num_right / seen if seen else None,
            window_counts=tuple(self._windows.tolist()),
            num_stream_rounds=int(self._windows.sum()),
        )


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if len(values) else 0.0


def _quantile(values: FloatArray, part: float) -> float:
    return float(np.quantile(values, part)) if len(values) else 0.0
