"""Which streams take part in a round where rows of some devices take long to sample.

Every stream has a row in every round that it takes part in, drafts or not. What the rows of one
device take beyond those of the device with the cheapest ones may lengthen the rounds of others by
a part only, the less the more streams two devices have; its streams then take turns. Where one row
alone takes longer than that, its stream has the turn when it has waited longest of its device, and
others of the device sit out for it. This module must never keep what it is told.
"""

from __future__ import annotations

from collections.abc import Sequence

from verifier.cost_curve.curve import CostCurve
from verifier.rounds.joint_limit import spare_part
from verifier.rounds.round_settings import RoundSettings
from verifier.scheduling.row_price import draft_prices
from verifier.streams.stream import Stream


def with_turns_and_prices(
    streams: Sequence[Stream], curve: CostCurve, settings: RoundSettings, token_seconds: float
) -> list[Stream]:
    """Those that take part now as far as their rows go, each with what its drafts cost.

    `token_seconds`: what a draft token adds to a round.
    """
    prices = draft_prices(streams, token_seconds)
    for stream, price in zip(streams, prices, strict=True):
        stream.draft_token_price = price
    num_context_tokens = float(sum([stream.num_tokens for stream in streams]))
    seconds = curve.round_seconds(len(streams), num_context_tokens)
    others = [stream for stream in streams if not stream.reads_prompt]
    joint_limit = settings.device_prefill_slowdown_limit
    part = settings.schedule.limits.slowdown_limit
    if part < joint_limit:
        part = min(part, spare_part(others, curve, joint_limit, counts_rows=False) / 2.0)
    spare_seconds = part * seconds
    return those_with_a_turn(streams, spare_seconds, settings.prefill_chunk_tokens, token_seconds)


def those_with_a_turn(
    streams: Sequence[Stream], spare_seconds: float, chunk_tokens: int, token_seconds: float
) -> list[Stream]:
    """Of each device as many as `spare_seconds` pay for, or its first one, in the order given.

    For a first one that takes more than that so many behind it sit out as take as long, each
    `token_seconds`. All, where there is one device. A prompt of more than `chunk_tokens` has no row
    yet, but takes turns with a row that takes more.
    """
    devices = {stream.device for stream in streams}
    if len(devices) < 2:
        return list(streams)
    cheapest = min(stream.estimates.row_seconds for stream in streams)
    left = dict.fromkeys(devices, spare_seconds)
    owed = dict.fromkeys(devices, 0.0)
    has_one: set[str] = set()
    chosen = []
    for stream in streams:
        if stream.is_arriving:  # it has no row, and may have nothing to read
            chosen.append(stream)
            continue
        device, dearness = stream.device, stream.estimates.row_seconds - cheapest
        if stream.num_pending_tokens > chunk_tokens:  # it has no row either
            dearness = 0.0
        if device in has_one:
            if dearness > max(left[device], 0.0):
                continue
            if owed[device] > 0.0:
                owed[device] -= token_seconds
                continue
        elif dearness > spare_seconds and token_seconds > 0.0:
            owed[device] = dearness
        left[device] -= dearness
        has_one.add(device)
        chosen.append(stream)
    return chosen
