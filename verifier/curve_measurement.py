"""Measure how long rounds of a target take, for the cost curve."""

from __future__ import annotations

import time
from collections.abc import Iterator

from shared.sampling import GREEDY
from verifier.target import Round, RoundItem, TargetModel, Verify

# Longer rounds are mostly prompts; the curve goes on linearly there.
MAX_MEASURED_TOKENS = 128
CONTEXTS = (128, 1024)  # summed over the streams of a round
# A round of many tokens holds many streams: this many tokens of each.
STREAM_TOKENS = 8
NUM_REPEATS = 3  # the fastest counts: what else the machine does only adds

CostSample = tuple[int, int, float]  # tokens, context tokens, seconds


def measure_curve(target: TargetModel, max_round_tokens: int) -> list[CostSample]:
    """Round seconds on a grid of tokens and contexts; takes a few seconds on a CPU.

    Uses the target's cache from block 0 on: call it before the first stream.
    """
    num_tokens = 1
    samples = []
    while num_tokens <= min(max_round_tokens, MAX_MEASURED_TOKENS):
        for context_tokens in CONTEXTS:
            seconds = min(_measure(target, num_tokens, context_tokens))
            samples.append((num_tokens, context_tokens, seconds))
        num_tokens *= 2
    return samples


def _measure(target: TargetModel, num_tokens: int, context_tokens: int) -> Iterator[float]:
    round_ = _made_up_round(target, num_tokens, context_tokens)
    target.verify(round_)  # first calls allocate
    for _ in range(NUM_REPEATS):
        started_at = time.monotonic()
        target.verify(round_)
        yield time.monotonic() - started_at


def _made_up_round(target: TargetModel, num_tokens: int, context_tokens: int) -> Round:
    """Greedy checks over whatever the cache holds; the tokens do not matter for the time."""
    num_streams = -(-num_tokens // STREAM_TOKENS)
    own_tokens = [num_tokens // num_streams] * num_streams
    own_tokens[0] += num_tokens - sum(own_tokens)
    items = []
    first_block = 0
    for stream, num_own in enumerate(own_tokens):
        num_cached = max(min(context_tokens // num_streams, target.context_tokens) - num_own, 0)
        num_blocks = -(-(num_cached + num_own) // target.block_tokens)
        items.append(
            RoundItem(
                stream=stream,
                token_ids=(0,) * num_own,
                num_cached_tokens=num_cached,
                block_table=tuple(range(first_block, first_block + num_blocks)),
                verify=Verify((0,) * (num_own - 1), (), "coupled", GREEDY, 0, 0, True),
            )
        )
        first_block += num_blocks
    return Round(tuple(items))
