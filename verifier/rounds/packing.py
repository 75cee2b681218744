"""What each stream gets of a round: tokens to read first, then drafts in what is left.

This module must never choose which stream takes part nor in which order; it keeps nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from verifier.rounds.blocks import BlockPool
from verifier.rounds.prefill import PromptRoom, prompt_shares
from verifier.scheduling.row_price import affordable
from verifier.streams.drafts_to_test import draft_check, drafts_to_test, num_drafts_to_test
from verifier.streams.stream import Stream
from verifier.target.round import RoundItem


class RoundRoom(msgspec.Struct, frozen=True, kw_only=True):
    """What one round may hold over all streams."""

    num_tokens: int
    prompts: PromptRoom
    num_drafts: int


class _Part(msgspec.Struct, frozen=True):
    stream: Stream
    num_read: int  # the next of its tokens that the target has not read
    reads_all: bool  # so that logits are needed
    num_owed: int  # draft tokens that it cannot go on without


def pack(streams: Sequence[Stream], room: RoundRoom, blocks: BlockPool) -> list[RoundItem]:
    """Each stream's next tokens, prompts in chunks; then the drafts, first come, first served."""
    parts = _parts(streams, room)
    tokens_left = room.num_tokens - sum([part.num_read + part.num_owed for part in parts])
    owed = sum([part.num_owed * part.stream.draft_token_price for part in parts if part.num_owed])
    drafts_left = room.num_drafts - owed
    shares = _draft_shares(parts, min(tokens_left, drafts_left))
    return [_item(part, share, blocks) for part, share in zip(parts, shares, strict=True)]


def _draft_shares(parts: list[_Part], left: float) -> list[int]:
    """How many drafts of each are tested beyond those that it is owed.

    First each board's own length, or a few boards that are far ahead would use the budget up, where
    the first tokens of the others are worth more than their last ones; then the rest. A token takes
    its price out of what is left.
    """
    wanted = [_num_testable(part) - part.num_owed for part in parts]
    shares = [0] * len(parts)
    for is_own_length in (True, False):
        for i, part in enumerate(parts):
            num_wanted = wanted[i] - shares[i]
            if is_own_length:
                num_wanted = min(num_wanted, part.stream.draft_length - part.num_owed)
            if num_wanted > 0:
                price = part.stream.draft_token_price
                num_paid = min(num_wanted, max(affordable(left, price), 0))
                shares[i] += num_paid
                left -= num_paid * price
    return shares


def _num_testable(part: _Part) -> int:
    stream = part.stream
    if not part.reads_all or not (stream.path.live or stream.forced_ids):
        return 0
    return num_drafts_to_test(stream)


def _parts(streams: Sequence[Stream], room: RoundRoom) -> list[_Part]:
    tokens_left = room.num_tokens
    shares = prompt_shares(streams, room.prompts)
    drafts_left = room.num_drafts
    parts = []
    for stream in streams:
        # The last token is read when the prompt is whole: its logits are needed then.
        num_pending = stream.num_pending_tokens - int(stream.is_arriving)
        num_read = min(num_pending, tokens_left, shares.get(stream.number, 1))
        reads_all = num_read == num_pending and not stream.is_arriving
        num_owed = int(reads_all and stream.must_be_tested)
        if num_owed > min(tokens_left - num_read, drafts_left):
            # It may read on, but not its last token without a draft behind it.
            num_read, reads_all, num_owed = num_read - 1, False, 0
        if num_read == 0:
            continue
        parts.append(_Part(stream, num_read, reads_all, num_owed))
        tokens_left -= num_read + num_owed
        drafts_left -= num_owed
    return parts


def _item(part: _Part, num_shared: int, blocks: BlockPool) -> RoundItem:
    stream = part.stream
    token_ids = stream.tokens_from_cache_on(part.num_read)
    check = None
    num_cached = stream.num_cached_tokens
    if part.reads_all:
        num_reserved = blocks.num_reserved_tokens(stream.number)
        num_free = num_reserved - num_cached - part.num_read
        max_drafts = min(part.num_owed + num_shared, num_free)
        check = draft_check(stream, *drafts_to_test(stream, max_drafts))
        token_ids += check.draft_token_ids
    return RoundItem(
        stream=stream.number,
        token_ids=token_ids,
        num_cached_tokens=num_cached,
        block_table=blocks.grow(stream.number, num_cached + len(token_ids)),
        draft_check=check,
    )
