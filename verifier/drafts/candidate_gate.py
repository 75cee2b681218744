"""Whether a candidate may be offered to boards at all: by texts that nothing was learned from.

Boards try what passes beside what they have; the gate keeps what is plainly worse from costing them
a stream. Pure.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from verifier.drafts.tuning_job import SEEN, HeldOutPair

# Of a domain; fewer say nothing.
LEAST_TEXTS = 3
# Student's t of 95 %, two-sided, by degrees of freedom from 2 on; then that of 30.
_T = (4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12)
_T_OF_MORE = 2.04
# Acceptance that a domain may lose at most, however wide its interval is.
MOST_LOST = 0.02


def refusal(pairs: Sequence[HeldOutPair]) -> str | None:
    """Why it is not offered; None: it is.

    It must be better in texts like those of streams, and worse in no other domain: neither beyond
    the 95 % interval of that domain, nor by more than `MOST_LOST`.
    """
    gains: dict[str, list[float]] = defaultdict(list)
    for pair in pairs:
        gains[pair.domain].append(pair.after - pair.before)
    if any(not math.isfinite(gain) for found in gains.values() for gain in found):
        return "its acceptance is no number"
    for domain in (SEEN, *sorted(gains.keys() - {SEEN})):
        if len(gains[domain]) < LEAST_TEXTS:
            return f"{len(gains[domain])} held-out texts of the domain {domain} prove nothing"
    for domain, found in sorted(gains.items()):
        mean, margin = _interval(found)
        if mean + margin < 0.0 or mean < -MOST_LOST:
            return f"it is accepted less in the domain {domain}: {mean:+.3f} ± {margin:.3f}"
    mean, margin = _interval(gains[SEEN])
    if mean <= 0.0:
        return f"it is not accepted more in texts like those of streams: {mean:+.3f} ± {margin:.3f}"
    return None


def mean_gain(pairs: Sequence[HeldOutPair], domain: str = SEEN) -> float:
    """By how much more it is accepted in a domain; there is a text of it."""
    gains = [pair.after - pair.before for pair in pairs if pair.domain == domain]
    return sum(gains) / len(gains)


def _interval(gains: Sequence[float]) -> tuple[float, float]:
    """Mean, and half of the 95 % interval around it."""
    number = len(gains)
    mean = sum(gains) / number
    variance = sum((gain - mean) ** 2 for gain in gains) / (number - 1)
    t = _T[number - 3] if number - 3 < len(_T) else _T_OF_MORE
    return mean, t * math.sqrt(variance / number)
