"""A world for the simulator that does what was recorded. Pure.

Rounds are fitted to a line over their tokens, boards to what was told of them; which draft tokens
are right, and how sure boards were of them, is replayed as it was, because acceptance comes in
runs: independent draws of the same rate are 12 to 38 % too optimistic. What is not fitted is left
to the error that `calibrate` tells: rounds that read prompts, links that change, boards that heat
up.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple

import msgspec
import numpy as np

from shared.errors import ConfigError
from shared.protocol.messages import AcceptanceMode
from verifier.recording.lines import BoardSpeed, RoundEnd, StreamPart
from verifier.recording.position_trace import Trace, completed, position_marks
from verifier.recording.recording_file import Recording

LEAST_ROUNDS = 20  # without a prompt
LEAST_TESTED = 20  # draft tokens of a board, for a trace
# A board is gone when it is away for so much longer than ever between two streams.
_GONE_PAUSES, _GONE_SECONDS = 2.0, 1.0


class FittedTarget(msgspec.Struct, frozen=True):
    """Of rounds: their median is `fixed + token * tokens`.

    Beyond `long_round_tokens`, the most of any round without a prompt, a token takes `long_token`.
    """

    fixed_seconds: float
    token_seconds: float
    jitter: float  # deviation of the logarithm
    long_round_tokens: int | None = None  # None: no prompt was longer
    long_token_seconds: float = 0.0


class FittedBoard(msgspec.Struct, frozen=True, kw_only=True):
    """One device."""

    device: str
    mode: AcceptanceMode
    num_tested: int  # draft tokens, those behind a wrong one left out
    trace: Trace  # which draft tokens are right, for every position, and how sure the board is
    draft_tokens_per_second: float | None  # None: it never drafted
    round_trip_seconds: float | None
    num_streams: int  # at once, at most
    prompt_tokens: int
    output_tokens: int  # 0: no stream ended
    think_seconds: float
    joins_at_seconds: float
    leaves_at_seconds: float | None
    num_tokens: int  # what it got
    open_seconds: float  # while it had a stream

    @property
    def tokens_per_second(self) -> float:
        """While it had a stream open."""
        return self.num_tokens / self.open_seconds if self.open_seconds else 0.0


class Asked(NamedTuple):
    """A request that was answered, as a world of many verifiers plays it again."""

    at_seconds: float
    prompt_tokens: int
    output_tokens: int


class Calibration(msgspec.Struct, frozen=True):
    """What `simulate` needs, and what it should come to."""

    target: FittedTarget
    boards: tuple[FittedBoard, ...]
    requests: tuple[Asked, ...]
    seconds: float
    round_seconds: float  # mean


def calibrate(recording: Recording) -> Calibration:
    """Fit a world to a recording.

    Raises:
        ConfigError: it holds too little.
    """
    plain = [round_ for round_ in recording.rounds if not round_.chunk_tokens]
    with_prompts = [round_ for round_ in recording.rounds if round_.chunk_tokens]
    if len(plain) < LEAST_ROUNDS:
        raise ConfigError(
            (f"{len(plain)} rounds without a prompt were recorded; {LEAST_ROUNDS} are needed",)
        )
    devices = dict.fromkeys(stream.device for stream in recording.streams.values())
    return Calibration(
        target=fit_target(plain, with_prompts),
        boards=tuple(_board(recording, device) for device in devices),
        requests=tuple(_requests(recording)),
        seconds=recording.seconds,
        round_seconds=float(np.mean([round_.total_seconds for round_ in recording.rounds])),
    )


def _requests(recording: Recording) -> Iterator[Asked]:
    """In the order of time; those without any output, or without an end, are left out."""
    parts = [part for round_ in recording.rounds for part in round_.parts]
    outputs: Counter[int] = Counter()
    for part in parts:
        outputs[part.stream] += part.num_accepted + part.num_own
    for number, begin in recording.streams.items():
        if number in recording.ends and outputs[number]:
            yield Asked(begin.at_seconds, max(begin.prompt_tokens, 1), outputs[number])


def fit_target(rounds: Sequence[RoundEnd], with_prompts: Sequence[RoundEnd] = ()) -> FittedTarget:
    """Least squares, so that the mean is met; the deviation without its outermost rounds.

    A round `with_prompts` has many times as many tokens, and each of them takes less.
    """
    tokens = np.array([round_.num_tokens for round_ in rounds], float)
    seconds = np.array([round_.total_seconds for round_ in rounds], float)
    slope = 0.0
    if tokens.std() > 0.0:
        slope = max(float(np.cov(tokens, seconds, bias=True)[0, 1] / tokens.var()), 0.0)
    fixed = float(seconds.mean() - slope * tokens.mean())
    if fixed <= 0.0:  # all of it hangs on tokens
        fixed, slope = 1e-6, float(seconds.sum() / tokens.sum())
    logs = np.log(np.maximum(seconds, 1e-9) / (fixed + slope * tokens))
    low, high = np.quantile(logs, (0.16, 0.84))
    jitter = min(float(high - low) / 2, 1.0)
    to_median = math.exp(-(jitter**2) / 2)  # of a logarithm's normal distribution
    most = int(tokens.max())
    long_tokens = sum(max(round_.num_tokens - most, 0) for round_ in with_prompts)
    long_seconds = sum(
        round_.total_seconds - (fixed + slope * most)
        for round_ in with_prompts
        if round_.num_tokens > most
    )
    long_slope = max(long_seconds / long_tokens, 0.0) if long_tokens else 0.0
    return FittedTarget(
        fixed_seconds=fixed * to_median,
        token_seconds=slope * to_median,
        jitter=jitter,
        long_round_tokens=most if long_tokens else None,
        long_token_seconds=long_slope * to_median,
    )


def _board(recording: Recording, device: str) -> FittedBoard:
    numbers = {n: begin for n, begin in recording.streams.items() if begin.device == device}
    spans = [(begin.at_seconds, _end(recording, number)) for number, begin in numbers.items()]
    parts: dict[int, list[StreamPart]] = {number: [] for number in numbers}
    for round_ in recording.rounds:
        for part in round_.parts:
            if part.stream in parts:
                parts[part.stream].append(part)
    outputs = {n: sum(p.num_accepted + p.num_own for p in own) for n, own in parts.items()}
    marks = [position_marks(own) for own in parts.values()]
    ended = [outputs[number] for number in numbers if number in recording.ends]
    pauses = list(_pauses(spans))
    think_seconds = float(np.mean(pauses)) if pauses else 0.0
    last_end = max(end for _, end in spans)
    longest_seconds = _GONE_PAUSES * max(pauses, default=0.0) + _GONE_SECONDS
    has_left = recording.seconds - last_end > longest_seconds
    speed = recording.speeds.get(device, BoardSpeed(None, None))
    modes = [begin.mode for begin in numbers.values()]
    return FittedBoard(
        device=device,
        mode=max(sorted(set(modes)), key=modes.count),
        num_tested=sum(bit is not None for own in marks for bit in own.bits),
        trace=completed(marks, Random(device)),
        draft_tokens_per_second=1 / speed.draft_token_seconds
        if speed.draft_token_seconds
        else None,
        round_trip_seconds=speed.round_trip_seconds,
        num_streams=_most_at_once(spans),
        prompt_tokens=max(round(np.mean([b.prompt_tokens for b in numbers.values()])), 1),
        output_tokens=max(round(np.mean(ended)), 1) if ended else 0,
        think_seconds=think_seconds,
        joins_at_seconds=min(begin for begin, _ in spans),
        leaves_at_seconds=last_end if has_left else None,
        num_tokens=sum(outputs.values()),
        open_seconds=_covered(spans),
    )


def _end(recording: Recording, number: int) -> float:
    end = recording.ends.get(number)
    return recording.seconds if end is None else end.at_seconds


def _pauses(spans: Sequence[tuple[float, float]]) -> Iterator[float]:
    """From the end of each stream to the next one that began."""
    begins = sorted(begin for begin, _ in spans)
    for _, end in spans:
        later = [begin for begin in begins if begin >= end]
        if later:
            yield later[0] - end


def _most_at_once(spans: Sequence[tuple[float, float]]) -> int:
    return max(sum(b <= begin < e or b == begin for b, e in spans) for begin, _ in spans)


def _covered(spans: Sequence[tuple[float, float]]) -> float:
    total, until = 0.0, 0.0
    for begin, end in sorted(spans):
        total += max(end - max(begin, until), 0.0)
        until = max(until, end)
    return total
