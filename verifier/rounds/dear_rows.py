"""Which streams take part in a round where rows of some devices take long to sample.

Every stream has a row in every round that it takes part in, drafts or not. What the rows of one
device take beyond those of the device with the cheapest ones may lengthen the rounds of others by
a part only; its streams then take turns. This module must never keep what it is told.
"""

from __future__ import annotations

from collections.abc import Sequence

from verifier.streams.stream import Stream


def those_with_a_turn(
    streams: Sequence[Stream], spare_seconds: float, chunk_tokens: int
) -> list[Stream]:
    """Of each device as many as `spare_seconds` pay for, one at least, in the order given.

    All, where there is one device. A prompt of more than `chunk_tokens` has no row yet.
    """
    devices = {stream.device for stream in streams}
    if len(devices) < 2:
        return list(streams)
    cheapest = min(stream.estimates.row_seconds for stream in streams)
    left = dict.fromkeys(devices, spare_seconds)
    has_one: set[str] = set()
    chosen = []
    for stream in streams:
        device = stream.device
        has_row = stream.num_pending_tokens <= chunk_tokens and not stream.is_arriving
        dearness = stream.estimates.row_seconds - cheapest if has_row else 0.0
        if dearness > 0.0:
            if dearness > left[device] and device in has_one:
                continue
            left[device] -= dearness
            has_one.add(device)
        chosen.append(stream)
    return chosen
