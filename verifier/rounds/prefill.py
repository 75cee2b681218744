"""How much of the prompts a round may read while others wait for their next token in it.

This module must never choose whose prompt is read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import msgspec

from verifier.cost_curve.curve import CostCurve
from verifier.streams.stream import Stream


class PrefillLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that bound the prompt tokens of a round."""

    chunk_tokens: int
    """At most, whatever streams are there."""
    least_tokens: int
    """At least, so that a prompt gets on; less only if `chunk_tokens` is less."""
    slowdown_limit: float
    """By how much prompts may lengthen the round for those who are past theirs."""


def prompt_tokens(
    streams: Sequence[Stream], num_drafts: int, curve: CostCurve, limits: PrefillLimits
) -> int:
    """How many prompt tokens the next round of these streams may hold, in their order.

    T(with prompts) <= (1 + slowdown_limit) * T(without), T without being the round of all that are
    past their prompts, with their drafts: `num_drafts` at most.
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

    def round_seconds(num_read: int) -> float:
        read_context = _context_tokens(prompts, num_read)
        return curve.round_seconds(num_tokens + num_read, context_tokens + read_context)

    longest = (1.0 + limits.slowdown_limit) * curve.round_seconds(num_tokens, context_tokens)
    least = min(limits.least_tokens, limits.chunk_tokens)
    # What is searched are the numbers above the least one; index 0 is the first of them.
    above = range(least + 1, limits.chunk_tokens + 1)
    return least + bisect_right(above, longest, key=round_seconds)


def _context_tokens(prompts: Sequence[Stream], num_read: int) -> int:
    """Tokens that the last queries of these prompts see when they read `num_read` of them."""
    context_tokens = 0
    for stream in prompts:
        if num_read == 0:
            break
        num_mine = min(stream.num_pending_tokens, num_read)
        context_tokens += stream.num_cached_tokens + num_mine
        num_read -= num_mine
    return context_tokens
