"""What a draft token costs beside another device's: rows of logits differ in what sampling takes.

The cost curve counts tokens. A draft token is a token and a row, and on a CPU a row that is flat
and sampled can take longer than its token; what that comes to is paid out of the stream's own
share of a budget. This module must never keep what it is told.
"""

from __future__ import annotations

from collections.abc import Sequence

from verifier.streams.stream import Stream

# Below it rows differ by less than the curve is sure of, and whole tokens would be rounded away.
SMALLEST_PRICE = 1.5


def draft_prices(streams: Sequence[Stream], token_seconds: float) -> list[float]:
    """What a draft token of each stream costs, in tokens of the device with the cheapest rows.

    1 for a device alone, whose rows lengthen its own rounds only, where no time is known, and up to
    `SMALLEST_PRICE`.
    """
    seconds = [stream.estimates.row_seconds for stream in streams]
    if not seconds or max(seconds) == min(seconds):
        return [1.0] * len(streams)
    cheapest: dict[str, float] = {}
    for stream, row_seconds in zip(streams, seconds, strict=True):
        cheapest[stream.device] = min(cheapest.get(stream.device, row_seconds), row_seconds)
    if len(cheapest) < 2 or token_seconds <= 0.0:
        return [1.0] * len(streams)
    base_seconds = token_seconds + min(cheapest.values())
    # Two digits: whole tokens come out whole again.
    prices = [round((token_seconds + row_seconds) / base_seconds, 2) for row_seconds in seconds]
    return [price if price >= SMALLEST_PRICE else 1.0 for price in prices]
