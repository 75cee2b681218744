"""How much of the prompts a round may read while others wait for their next token in it.

All devices with prompts have an equal part of that, and what one does not need is for the others:
no device's first token waits for the prompts that another device opens one after the other.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence

import msgspec

from verifier.cost_curve.curve import CostCurve
from verifier.cost_curve.look_back import Chunk
from verifier.streams.stream import Stream


class PrefillLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that bound the prompt tokens of a round."""

    chunk_tokens: int
    """At most, whatever streams are there."""
    least_tokens: int
    """At least, so that a prompt gets on; less only if `chunk_tokens` is less."""
    slowdown_limit: float
    """By how much prompts may lengthen the round for streams that are past theirs."""


def prompt_tokens(
    streams: Sequence[Stream], num_drafts: int, curve: CostCurve, limits: PrefillLimits
) -> int:
    """How many prompt tokens the next round of these streams may hold.

    T(with prompts) <= (1 + slowdown_limit) * T(without), T without being the round of all that are
    past their prompts, with their drafts: `num_drafts` at most. The further a prompt has been read,
    the fewer: each of its tokens looks back on all that.
    """
    prompts = []
    num_others = num_live = context_tokens = 0
    for stream in streams:
        if stream.reads_prompt:
            prompts.append(stream)
        else:
            num_others += 1
            num_live += len(stream.path.live)
            context_tokens += stream.num_tokens
    if not prompts or not num_others:
        return limits.chunk_tokens
    num_tokens = num_others + min(num_live, num_drafts)

    unread = _Unread(prompts)

    def round_seconds(num_read: int) -> float:
        chunks = unread.chunks(num_read)
        read_context = sum([sum(chunk) for chunk in chunks])
        return curve.round_seconds(num_tokens + num_read, context_tokens + read_context, chunks)

    max_seconds = (1.0 + limits.slowdown_limit) * curve.round_seconds(num_tokens, context_tokens)
    least = min(limits.least_tokens, limits.chunk_tokens)
    # What is searched are the numbers above the least one; index 0 is the first of them.
    larger_numbers = range(least + 1, limits.chunk_tokens + 1)
    return least + bisect_right(larger_numbers, max_seconds, key=round_seconds)


def prompt_shares(streams: Sequence[Stream], num_tokens: int) -> dict[int, int]:
    """How much of `num_tokens` each prompt may read, by the stream's number.

    Within a device first come, first served.
    """
    prompts = [stream for stream in streams if stream.reads_prompt]
    shares = _Unread(prompts).shares(num_tokens)
    return dict(zip([stream.number for stream in prompts], shares, strict=True))


class _Unread:
    """What prompts have left to read, looked up once for all numbers that a search tries."""

    def __init__(self, prompts: Sequence[Stream]) -> None:
        self._parts = [(s.device, s.num_pending_tokens, s.num_cached_tokens) for s in prompts]
        self._of_devices: dict[str, int] = {}
        for device, num_pending, _ in self._parts:
            self._of_devices[device] = self._of_devices.get(device, 0) + num_pending

    def shares(self, num_tokens: int) -> list[int]:
        left_to = _equal_parts(self._of_devices, num_tokens)
        shares = []
        for device, num_pending, _ in self._parts:
            share = min(num_pending, left_to[device])
            left_to[device] -= share
            shares.append(share)
        return shares

    def chunks(self, num_tokens: int) -> list[Chunk]:
        """The parts that are read of so many tokens."""
        parts = zip(self._parts, self.shares(num_tokens), strict=True)
        return [Chunk(share, num_cached) for (_, _, num_cached), share in parts if share]


def _equal_parts(wishes: Mapping[str, int], num_tokens: int) -> dict[str, int]:
    """An equal part for each device, but no more than it wishes.

    Where there is not a token for each, the first ones get one: those that were longest unserved.
    """
    parts = dict.fromkeys(wishes, 0)
    by_wish = sorted(list(wishes)[:num_tokens], key=wishes.__getitem__)
    for i, device in enumerate(by_wish):
        parts[device] = min(wishes[device], -(-num_tokens // (len(by_wish) - i)))
        num_tokens -= parts[device]
    return parts
