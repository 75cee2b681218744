"""How long a round may take where devices lengthen it by several means.

Prompts of a device or two lengthen the rounds of others by a part only, and so do drafts and rows
that take long to sample. Each of that by itself: a device with a long prompt and its helper with
many streams and drafts would add up. So what they have in a round beyond a token for each device
leaves less for drafts, where a device gains nothing by any, and what these take leaves less for
prompts, down to a few tokens. (A policy weighs drafts on average over rounds; a device without any
is delayed by each round for itself.) This module must never keep what it is told.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from verifier.cost_curve.curve import CostCurve
from verifier.streams.stream import Stream

# A device that gets so much more by drafts than a token for each stream gains by longer rounds.
SMALLEST_GAIN = 1.05


class Excess(msgspec.Struct):
    """What one device has in a round beyond its first token."""

    num_tokens: int = -1
    context_tokens: int = 0  # of those tokens' streams
    dear_seconds: float = 0.0  # of its rows beyond the cheapest ones


class DraftRoom(msgspec.Struct, frozen=True):
    """The draft tokens that a round may hold."""

    num_tokens: int
    are_counted: bool = False  # as what lengthens the round for a device that gains nothing by them


def draft_room(
    streams: Sequence[Stream],
    num_drafts: int,
    curve: CostCurve,
    slowdown_limit: float,
    joint_limit: float,
    few_tokens: int,
) -> DraftRoom:
    """How many of `num_drafts` the next round of these streams may hold.

    All, where each device with a token in it gains by drafts or drafts itself, or none but one has
    streams, or where `slowdown_limit` lets drafts lengthen rounds by more anyway. Else no single
    round is longer by more than `joint_limit`, less what the two devices with the most have in it
    beyond a token each; beside prompts, which need a part of that and `few_tokens` in any case, by
    `slowdown_limit` at most. One token always: a draft may be waiting that must be tested.
    """
    others = [stream for stream in streams if not stream.reads_prompt]
    if slowdown_limit >= joint_limit or not _holds_up_others(others):
        return DraftRoom(num_drafts)
    part, num_tokens = spare_part(others, curve, joint_limit), len(others)
    context_tokens = sum([stream.num_tokens for stream in others])
    most = curve.drafts_within(num_tokens, context_tokens, part, num_drafts + few_tokens)
    if num_tokens < len(streams):
        beside = curve.drafts_within(num_tokens, context_tokens, slowdown_limit, num_drafts)
        most = min(most - few_tokens, beside)
    return DraftRoom(max(min(most, num_drafts), 1), are_counted=True)


def spare_part(
    others: Sequence[Stream], curve: CostCurve, joint_limit: float, *, counts_rows: bool = True
) -> float:
    """By which part a round of these streams may still be longer, for what is no token of theirs.

    `joint_limit` is for all that the two devices with the most have in it beyond a token each, with
    what their rows take beyond the cheapest ones, if these count.
    """
    of_devices = _excesses(others)
    context_tokens = sum([stream.num_tokens for stream in others])
    seconds = curve.round_seconds(len(others), context_tokens)
    if len(of_devices) < 2 or seconds <= 0.0:
        return joint_limit
    token_seconds = _token_seconds(others, curve)
    excesses = of_devices.values()
    most_tokens = sorted([token_seconds * excess.num_tokens for excess in excesses])[-2:]
    dear_seconds = sorted([excess.dear_seconds for excess in excesses])[-2:] if counts_rows else []
    bare_seconds = seconds - sum(most_tokens)
    left = (1.0 + joint_limit) * bare_seconds - seconds - sum(dear_seconds)
    return max(left / seconds, 0.0)


def longest_seconds(
    others: Sequence[Stream],
    num_drafts: int,
    prompt_devices: Collection[str],
    curve: CostCurve,
    slowdown: float,
    num_counted_drafts: int = 0,
) -> float | None:
    """The longest that a round of the streams past their prompts may be with prompts, by the curve.

    (1 + slowdown) times the round without the excess of those whose prompts they are; where that is
    one device and more than one other waits for tokens, also without that of the one with the
    largest, which may be its helper. None: there is no excess. Of the drafts those that are counted
    are of it, others have a limit of their own. What rows take beyond the cheapest ones is not the
    curve's: it is taken off.
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
    is_any = any(excess.num_tokens or excess.dear_seconds for excess in guilty)
    if not (is_any or num_counted_drafts):
        return None
    num_tokens = len(others) + num_drafts - sum([excess.num_tokens for excess in guilty])
    context_tokens = sum([stream.num_tokens for stream in others])
    context_tokens -= sum([excess.context_tokens for excess in guilty])
    dear_seconds = sum([excess.dear_seconds for excess in of_devices.values()])
    guilty_seconds = sum([excess.dear_seconds for excess in guilty])
    uncounted = num_tokens - num_counted_drafts
    without = curve.round_seconds(uncounted, context_tokens) + dear_seconds - guilty_seconds
    return (1.0 + slowdown) * without - dear_seconds


def _holds_up_others(others: Sequence[Stream]) -> bool:
    """Whether drafts of one device may lengthen a round for another that has nothing of any.

    Such a device has no drafts, is to make none, and got none of late that would count.
    """
    num_streams: dict[str, int] = {}
    drafting: set[str] = set()
    gaining: set[str] = set()
    for stream in others:
        num_streams[stream.device] = num_streams.get(stream.device, 0) + 1
        if stream.path.live:
            drafting.add(stream.device)
        if stream.path.live or stream.draft_length:
            gaining.add(stream.device)
    if not drafting or len(num_streams) < 2:
        return False
    return any(
        stream.device not in gaining
        and stream.estimates.goodput.steady_tokens_per_round
        < SMALLEST_GAIN * num_streams[stream.device]
        for stream in others
    )


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
    return (seconds - curve.round_seconds(1, context_tokens)) / max(len(streams) - 1, 1)
