"""Which promises can be kept together, by the target alone: the law behind admission.

A stream that is promised a token every s seconds has its k-th at k s at the latest, and each round
gives it one, drafts or not. Let no round take longer than P, which is at most the shortest s. Then
a stream that is in every round is in time. One with a longer s has at least n = floor(s / P) - 1
whole rounds between two of its deadlines, however rounds lie; with a part of 1 / n in each of these
all its tokens are in time. The parts of all streams come to a number of tokens in each round; where
that is no more than what a round of P seconds holds, whole tokens can be dealt the same way (a
matching of tokens to rounds, each within an interval of them), and the earliest deadline first is a
deal that keeps them. Drafts bring tokens beyond that: they make streams earlier, never later, so no
promise hangs on a draft. Where a chunk of drafts must be tested with it (`rejection`), a token of
such a stream is counted as two. This module must never know a stream.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

# Of a quotient that is whole but for rounding.
_ROUNDING = 1e-9


class Promise(NamedTuple):
    """A token in so many seconds, which takes so much of a round."""

    slo_seconds: float
    round_tokens: int = 1


def rounds_between(slo_seconds: float, longest_round_seconds: float) -> int:
    """Of how many rounds one at least must hold a token of a stream with this promise."""
    num_whole = math.floor(slo_seconds / longest_round_seconds + _ROUNDING)
    return max(num_whole - 1, 1)


def owed_tokens(promises: Iterable[Promise], longest_round_seconds: float) -> float:
    """What these promises need of each round, in tokens."""
    return sum(
        [
            promise.round_tokens / rounds_between(promise.slo_seconds, longest_round_seconds)
            for promise in promises
        ]
    )
