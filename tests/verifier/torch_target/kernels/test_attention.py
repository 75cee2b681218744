"""The attention kernel equals dense float32 attention, whatever the round looks like.

Runs on a GPU; without one through Triton's interpreter, where Triton is installed.
"""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from tests.support.models.triton_kernels import DEVICE, IS_INTERPRETED, import_triton
from verifier.target.round import RoundItem
from verifier.torch_target.kernels.head_shape import HeadShape
from verifier.torch_target.kernels.paged_layout import PagedLayout, positions_of
from verifier.torch_target.kernels.score_rule import ScoreRule

import_triton()

from verifier.torch_target.kernels.attention import paged_attention  # noqa: E402

NUM_ROUNDS = 2 if IS_INTERPRETED else 12
MAX_CONTEXT = 200 if IS_INTERPRETED else 3000
# What the interpreter computes for rows that a tile leaves unused.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
BLOCK_TOKENS = 16
TOLERANCE = {torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def random_round(chance: random.Random) -> tuple[list[RoundItem], int]:
    """Streams that decode, verify or read a prompt, over blocks in any order."""
    sizes = []
    for _ in range(chance.randint(1, 9)):
        num_new = chance.choice([1, 1, 2, 4, 5, 9, 17, 70])
        sizes.append((chance.choice([0, 1, chance.randrange(MAX_CONTEXT)]), num_new))
    num_blocks = [-(-sum(size) // BLOCK_TOKENS) for size in sizes]
    blocks = list(range(sum(num_blocks)))
    chance.shuffle(blocks)
    taken = iter(blocks)
    items = [
        RoundItem(
            stream=i,
            token_ids=(0,) * num_new,
            num_cached_tokens=num_cached,
            block_table=tuple(next(taken) for _ in range(num_blocks[i])),
            draft_check=None,
        )
        for i, (num_cached, num_new) in enumerate(sizes)
    ]
    return items, len(blocks) * BLOCK_TOKENS


def dense_attention(
    query: Tensor, key: Tensor, value: Tensor, num_cached: int, rule: ScoreRule
) -> Tensor:
    """The definition, in float32: [num_new, num_heads, head_size]."""
    num_members = query.shape[0] // key.shape[1]
    key, value = (t.float().repeat_interleave(num_members, 1).transpose(0, 1) for t in (key, value))
    scores = query.float() @ key.transpose(1, 2) * rule.scale
    if rule.softcap is not None:
        scores = rule.softcap * torch.tanh(scores / rule.softcap)
    queries = torch.arange(num_cached, key.shape[1], device=DEVICE)[:, None]
    keys = torch.arange(key.shape[1], device=DEVICE)
    is_hidden = keys > queries
    if rule.window is not None:
        is_hidden |= keys <= queries - rule.window
    weights = torch.exp(scores.masked_fill(is_hidden, -torch.inf))
    total = weights.sum(-1, keepdim=True)
    if rule.sinks is not None:
        total = total + torch.exp(rule.sinks.float())[:, None, None]
    return (weights / total @ value).transpose(0, 1)


def slots_of(item: RoundItem) -> Tensor:
    positions = torch.arange(item.context_tokens)
    table = torch.tensor(item.block_table)
    return (table[positions // BLOCK_TOKENS] * BLOCK_TOKENS + positions % BLOCK_TOKENS).to(DEVICE)


# Every value meets the others somewhere; each line is compiled anew, which takes seconds.
CASES = [
    (torch.bfloat16, 64, HeadShape(9, 3), None, None, False),
    (torch.bfloat16, 128, HeadShape(32, 8), None, None, False),
    (torch.bfloat16, 128, HeadShape(32, 8), 512, None, False),
    (torch.bfloat16, 80, HeadShape(8, 8), 37, None, False),
    (torch.bfloat16, 256, HeadShape(4, 1), 512, None, False),
    (torch.float16, 96, HeadShape(9, 3), None, None, False),
    (torch.float16, 128, HeadShape(8, 8), 1, None, False),
    (torch.float16, 256, HeadShape(8, 4), None, None, False),
    (torch.float32, 64, HeadShape(9, 3), None, None, False),
    (torch.float32, 96, HeadShape(32, 8), 37, None, False),
    (torch.float32, 256, HeadShape(4, 1), 512, None, False),
    (torch.bfloat16, 256, HeadShape(8, 4), 512, 50.0, False),
    (torch.bfloat16, 64, HeadShape(32, 4), 128, None, True),
    (torch.float16, 64, HeadShape(8, 1), None, None, True),
    (torch.float32, 64, HeadShape(9, 3), None, 0.7, True),
    (torch.float32, 32, HeadShape(4, 4), 37, 0.7, True),
]


@pytest.mark.parametrize(("dtype", "head_size", "heads", "window", "softcap", "has_sinks"), CASES)
def test_the_kernel_equals_dense_attention(
    dtype: torch.dtype,
    head_size: int,
    heads: HeadShape,
    window: int | None,
    softcap: float | None,
    has_sinks: bool,
) -> None:
    if IS_INTERPRETED and dtype is torch.bfloat16:
        pytest.skip("Triton's interpreter multiplies the bits of bfloat16 as integers")
    chance = random.Random(f"{dtype} {head_size} {heads} {window}")
    generator = torch.Generator(DEVICE).manual_seed(chance.getrandbits(60))
    sinks = None
    if has_sinks:
        sinks = torch.randn(heads.num_heads, dtype=dtype, device=DEVICE, generator=generator)
    rule = ScoreRule(head_size**-0.5, window, softcap, sinks)
    for _ in range(NUM_ROUNDS):
        items, num_slots = random_round(chance)
        num_tokens = sum(len(item.token_ids) for item in items)
        shape = {"dtype": dtype, "device": DEVICE, "generator": generator}
        keys = torch.randn(num_slots, heads.num_kv_heads, head_size, **shape)
        values = torch.randn(num_slots, heads.num_kv_heads, head_size, **shape)
        # As a projection leaves it: heads of one token side by side.
        query = torch.randn(num_tokens, heads.num_heads, head_size, **shape).transpose(0, 1)
        num_cores = chance.choice([None, 1, 16, 132])
        layout = PagedLayout.of(
            items, positions_of(items), BLOCK_TOKENS, heads, [window], num_cores
        ).to(DEVICE)
        output = paged_attention(query, keys, values, layout, rule)
        start = 0
        for item in items:
            end = start + len(item.token_ids)
            seen = slots_of(item)
            expected = dense_attention(
                query[:, start:end], keys[seen], values[seen], item.num_cached_tokens, rule
            )
            torch.testing.assert_close(
                output[start:end].float(), expected, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype]
            )
            start = end
