"""Ragged attention over blocks equals dense attention, whatever the blocks and the streams are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from verifier.target.round import RoundItem
from verifier.torch_target.forward.block_cache import BlockCache
from verifier.torch_target.forward.ragged_attention import RaggedAttention
from verifier.torch_target.forward.ragged_layout import RaggedLayout
from verifier.torch_target.kernels.head_shape import HeadShape
from verifier.torch_target.kernels.score_rule import ScoreRule

BLOCK_TOKENS = 4
HEAD_SIZE = 8
LIKE = torch.zeros(0)


@st.composite
def rounds(draw: st.DrawFn) -> list[RoundItem]:
    """Streams with cached tokens, new ones and block tables in any order."""
    lengths = st.tuples(st.integers(0, 20), st.one_of(st.integers(1, 6), st.integers(60, 70)))
    streams = draw(st.lists(lengths, min_size=1, max_size=4))
    sizes = [-(-sum(stream) // BLOCK_TOKENS) for stream in streams]
    blocks = list(range(sum(sizes)))
    if draw(st.booleans()):
        blocks = draw(st.permutations(blocks))
    tables = iter(blocks)
    return [
        RoundItem(
            stream=number,
            token_ids=tuple(range(num_new)),
            num_cached_tokens=num_cached,
            block_table=tuple(next(tables) for _ in range(size)),
            draft_check=None,
        )
        for number, ((num_cached, num_new), size) in enumerate(zip(streams, sizes, strict=True))
    ]


def dense_attention(
    query: Tensor, key: Tensor, value: Tensor, num_cached: int, rule: ScoreRule
) -> Tensor:
    """The definition, in float32: [num_heads, num_new, head_size]."""
    num_members = query.shape[0] // key.shape[0]
    key, value = (tensor.repeat_interleave(num_members, 0) for tensor in (key, value))
    scores = query @ key.transpose(1, 2) * rule.scale
    if rule.softcap is not None:
        scores = rule.softcap * torch.tanh(scores / rule.softcap)
    queries = torch.arange(num_cached, key.shape[1])[:, None]
    keys = torch.arange(key.shape[1])
    is_hidden = keys > queries
    if rule.window is not None:
        is_hidden |= keys <= queries - rule.window
    weights = torch.exp(scores.masked_fill(is_hidden, -torch.inf))
    total = weights.sum(-1, keepdim=True)
    if rule.sinks is not None:
        total = total + torch.exp(rule.sinks)[:, None, None]
    return weights / total @ value


def packed_heads(num_heads: int, num_tokens: int, generator: torch.Generator) -> Tensor:
    """[1, num_heads, num_tokens, head_size] as a projection leaves it."""
    return torch.randn(1, num_tokens, num_heads, HEAD_SIZE, generator=generator).transpose(1, 2)


def slots_of(item: RoundItem) -> Tensor:
    table = np.asarray(item.block_table)
    positions = np.arange(item.context_tokens)
    return torch.from_numpy(
        table[positions // BLOCK_TOKENS] * BLOCK_TOKENS + positions % BLOCK_TOKENS
    )


def stream_parts(items: list[RoundItem]) -> Iterator[tuple[RoundItem, slice]]:
    start = 0
    for item in items:
        yield item, slice(start, start + len(item.token_ids))
        start += len(item.token_ids)


@settings(deadline=None, max_examples=150)
@given(
    rounds(),
    st.sampled_from([HeadShape(4, 2), HeadShape(3, 3), HeadShape(6, 1)]),
    st.sampled_from([None, 1, 5, 16]),
    st.sampled_from([None, 0.7]),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_every_stream_sees_what_it_would_see_alone(
    items: list[RoundItem],
    heads: HeadShape,
    window: int | None,
    softcap: float | None,
    has_sinks: bool,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    sinks = torch.randn(heads.num_heads, generator=generator) if has_sinks else None
    rule = ScoreRule(HEAD_SIZE**-0.5, window, softcap, sinks)
    cache = BlockCache(num_slots=sum(len(item.block_table) for item in items) * BLOCK_TOKENS)
    old = {item.stream: slots_of(item)[: item.num_cached_tokens] for item in items}
    old_keys = {
        stream: packed_heads(heads.num_kv_heads, len(slots), generator)
        for stream, slots in old.items()
    }
    for stream, slots in old.items():
        keys, values = cache.of_layer(0, old_keys[stream], -old_keys[stream])
        keys[slots] = old_keys[stream][0].transpose(0, 1)
        values[slots] = -old_keys[stream][0].transpose(0, 1)

    num_tokens = sum(len(item.token_ids) for item in items)
    query = packed_heads(heads.num_heads, num_tokens, generator)
    key = packed_heads(heads.num_kv_heads, num_tokens, generator)
    value = packed_heads(heads.num_kv_heads, num_tokens, generator)
    layout = RaggedLayout.of(items, BLOCK_TOKENS, heads, [None, window], LIKE)
    output = RaggedAttention(layout, cache).attend(0, query, key, value, rule)

    for item, part in stream_parts(items):
        keys = torch.cat([old_keys[item.stream][0], key[0, :, part]], 1)
        values = torch.cat([-old_keys[item.stream][0], value[0, :, part]], 1)
        expected = dense_attention(query[0, :, part], keys, values, item.num_cached_tokens, rule)
        torch.testing.assert_close(output[0, part].transpose(0, 1), expected, rtol=1e-5, atol=2e-6)


def item(num_cached: int, num_new: int, table: tuple[int, ...]) -> RoundItem:
    return RoundItem(0, tuple(range(num_new)), num_cached, table, None)


def test_neighbouring_blocks_are_read_in_place_and_others_gathered() -> None:
    items = [item(6, 1, (3, 4)), item(6, 1, (4, 3))]
    layout = RaggedLayout.of(items, BLOCK_TOKENS, HeadShape(2, 2), [None], LIKE)
    in_place, gathered = layout.views[None]
    assert (12, None) == (in_place.first_slot, in_place.slots)
    assert gathered.slots is not None
    assert [16, 17, 18, 19, 12, 13, 14] == gathered.slots.tolist()


def test_a_round_of_single_tokens_folds_and_masks_nothing() -> None:
    items = [item(6, 1, (0, 1)), item(2, 1, (2,))]
    layout = RaggedLayout.of(items, BLOCK_TOKENS, HeadShape(4, 2), [None], LIKE)
    assert (None, None) == (layout.fold, layout.unfold)
    assert [None, None] == [view.mask for view in layout.views[None]]
