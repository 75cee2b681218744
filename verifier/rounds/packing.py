"""What each stream gets of a round: tokens to read first, then drafts in what is left.

This module must never choose which stream takes part nor in which order; it keeps nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from verifier.policies import LiveDrafts, first_come
from verifier.rounds.blocks import BlockPool
from verifier.rounds.prefill import PromptRoom, prompt_shares
from verifier.streams.drafts_to_test import draft_check, drafts_to_test, num_drafts_to_test
from verifier.streams.stream import Stream
from verifier.target.round import RoundItem


class RoundRoom(NamedTuple):
    """What one round may hold over all streams."""

    num_tokens: int
    prompts: PromptRoom
    num_drafts: int


class _Part(NamedTuple):
    stream: Stream
    num_read: int  # the next of its tokens that the target has not read
    reads_all: bool  # so that logits are needed
    num_owed: int  # draft tokens that it cannot go on without


Choose = Callable[[LiveDrafts, Sequence[Stream], int], Sequence[int]]
"""How many drafts of each are tested: of the live ones of these streams, in a round that has so
many tokens already."""


def pack(
    streams: Sequence[Stream],
    room: RoundRoom,
    blocks: BlockPool,
    choose: Choose = lambda live, streams, num_tokens: first_come(live),
) -> list[RoundItem]:
    """Each stream's next tokens, prompts in chunks; then the drafts that are chosen."""
    parts = _parts(streams, room)
    num_tokens = sum([part.num_read + part.num_owed for part in parts])
    live = _live_drafts(parts, room, num_tokens)
    if any(live.num_testable):
        shares = choose(live, [part.stream for part in parts], num_tokens)
    else:
        shares = [0] * len(parts)
    return [_item(part, share, blocks) for part, share in zip(parts, shares, strict=True)]


def _live_drafts(parts: list[_Part], room: RoundRoom, num_tokens: int) -> LiveDrafts:
    """What may be tested of each beyond those drafts that it is owed."""
    owed = sum([part.num_owed * part.stream.draft_token_price for part in parts if part.num_owed])
    return LiveDrafts(
        num_testable=[_num_testable(part) - part.num_owed for part in parts],
        own_lengths=[part.stream.draft_length - part.num_owed for part in parts],
        prices=[part.stream.draft_token_price for part in parts],
        is_whole=[part.stream.request.mode == "rejection" for part in parts],
        budget=room.num_drafts - owed,
        num_room=room.num_tokens - num_tokens,
    )


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
    stream, request = part.stream, part.stream.request
    num_cached = stream.num_cached_tokens
    token_ids = stream.tokens(num_cached, num_cached + part.num_read)
    check = prompt_rows = None
    if part.reads_all:
        num_reserved = blocks.num_reserved_tokens(stream.number)
        num_free = num_reserved - num_cached - part.num_read
        max_drafts = min(part.num_owed + num_shared, num_free)
        check = draft_check(stream, *drafts_to_test(stream, max_drafts))
        token_ids += check.draft_token_ids
    if request.num_prompt_logprobs is not None:
        place = num_cached, part.num_read
        prompt_rows = stream.logprobs.prompt_rows(request.prompt_ids, *place)
    return RoundItem(
        stream=stream.number,
        token_ids=token_ids,
        num_cached_tokens=num_cached,
        block_table=blocks.grow(stream.number, num_cached + len(token_ids)),
        draft_check=check,
        prompt_rows=prompt_rows,
    )
