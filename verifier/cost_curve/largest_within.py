"""The largest number whose round keeps to a time, found with few looks at the cost curve.

Each look costs 40 µs of the time between two rounds. Rounds grow nearly in a line, so the number
lies near where a line says; a search by halves takes twice as many looks.
"""

from __future__ import annotations

from collections.abc import Callable


def largest_within(
    least: int, end: int, most_seconds: float, seconds_of: Callable[[int], float]
) -> int:
    """The largest number up to `end` that takes `most_seconds` at most, but `least` at least.

    `seconds_of` never falls as the number grows, and is asked about `least` to `end` alone.
    """
    if end <= least or (end_seconds := seconds_of(end)) <= most_seconds:
        return max(end, least)
    within, within_seconds = least, seconds_of(least)
    beyond, beyond_seconds = end, end_seconds
    num_looks = 0
    while beyond - within > 1 and within_seconds <= most_seconds:
        num_looks += 1
        part = (most_seconds - within_seconds) / (beyond_seconds - within_seconds)
        # On a line one look finds it, and another one that there is no more; curves may be bent.
        step = int((part if num_looks % 3 else 0.5) * (beyond - within))
        number = within + min(max(step, 1), beyond - within - 1)
        seconds = seconds_of(number)
        if seconds <= most_seconds:
            within, within_seconds = number, seconds
        else:
            beyond, beyond_seconds = number, seconds
    return within
