"""How long a round with prompts may take where devices lengthen it by other means, too.

Prompts of a device or two lengthen the rounds of others by a part only, and so do drafts and rows
that take long to sample. Each of that by itself: a device with a long prompt and its helper with
many streams and dear rows would add up. So what they have in a round beyond a token for each device
leaves less for prompts, down to a few tokens. This module must never keep what it is told.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from verifier.cost_curve.curve import CostCurve
from verifier.streams.stream import Stream


class Excess(msgspec.Struct):
    """What one device has in a round beyond its first token."""

    num_tokens: int = -1
    context_tokens: int = 0  # of those tokens' streams
    dear_seconds: float = 0.0  # of its rows beyond the cheapest ones


def longest_seconds(
    others: Sequence[Stream],
    num_drafts: int,
    prompt_devices: Collection[str],
    curve: CostCurve,
    slowdown: float,
) -> float | None:
    """The longest that a round of the streams past their prompts may be with prompts, by the curve.

    (1 + slowdown) times the round without the excess of those whose prompts they are; where that is
    one device and more than one other waits for tokens, also without that of the one with the
    largest, which may be its helper. None: there is no excess. Drafts have a limit of their own.
    What rows take beyond the cheapest ones is not the curve's: it is taken off.
    """
    of_devices = _excesses(others)
    guilty = [of_devices[device] for device in prompt_devices if device in of_devices]
    helpers = [device for device in of_devices if device not in prompt_devices]
    if len(prompt_devices) == 1 and len(helpers) > 1:
        seconds_of_token = _token_seconds(others, curve)

        def seconds(device: str) -> float:
            excess = of_devices[device]
            return excess.num_tokens * seconds_of_token + excess.dear_seconds

        guilty += [of_devices[device] for device in sorted(helpers, key=seconds)[-1:]]
    if not any(excess.num_tokens or excess.dear_seconds for excess in guilty):
        return None
    num_tokens = len(others) + num_drafts - sum([excess.num_tokens for excess in guilty])
    context_tokens = sum([stream.num_tokens for stream in others])
    context_tokens -= sum([excess.context_tokens for excess in guilty])
    dear_seconds = sum([excess.dear_seconds for excess in of_devices.values()])
    guilty_seconds = sum([excess.dear_seconds for excess in guilty])
    without = curve.round_seconds(num_tokens, context_tokens) + dear_seconds - guilty_seconds
    return (1.0 + slowdown) * without - dear_seconds


def _excesses(streams: Sequence[Stream]) -> dict[str, Excess]:
    of_devices: dict[str, Excess] = {}
    cheapest = min([stream.estimates.row_seconds for stream in streams], default=0.0)
    for stream in streams:
        excess = of_devices.setdefault(stream.device, Excess())
        excess.context_tokens += stream.num_tokens if excess.num_tokens >= 0 else 0
        excess.num_tokens += 1
        excess.dear_seconds += stream.estimates.row_seconds - cheapest
    return of_devices


def _token_seconds(streams: Sequence[Stream], curve: CostCurve) -> float:
    """What a token more adds, on average over the round."""
    context_tokens = sum([stream.num_tokens for stream in streams])
    seconds = curve.round_seconds(len(streams), context_tokens)
    return (seconds - curve.round_seconds(1, context_tokens)) / max(len(streams), 1)
