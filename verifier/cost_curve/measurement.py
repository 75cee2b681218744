"""Made-up rounds of a target: to warm it up, and to measure the cost curve."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from itertools import product

import msgspec
import numpy as np

from shared.speculation.logit_processors import LogitProcessors
from shared.speculation.sampling import GREEDY
from verifier.cost_curve.curve import CostCurve, CostSample, CurveSubject
from verifier.cost_curve.look_back import STREAM_TOKENS, Chunk, ChunkSample
from verifier.target.padded_rounds import MOST_PADDED_TOKENS, padded_sizes, stepped_sizes
from verifier.target.processing import Processing, SeenTokens
from verifier.target.round import DraftCheck, Round, RoundItem
from verifier.target.target import TargetModel

# Chunks look back so far that each takes long; they are few, and need no more repeats.
_CHUNK_REPEATS = 2


class GridSize(msgspec.Struct, frozen=True, kw_only=True):
    """How much of the plane of tokens and contexts to measure."""

    max_tokens: int
    min_context_tokens: int
    max_context_tokens: int
    num_contexts: int
    num_repeats: int
    chunk_tokens: tuple[int, ...]  # of prompts, both sides of 64: see below
    chunk_depths: tuple[int, ...]  # as far as streams go; 0: nothing is looked back on there
    has_steps: bool = False  # time grows in steps: rounds are padded


# A chunk of more than 64 tokens is another thing: on a GPU no graph is captured for it, on a CPU
# its query heads are not folded.
# At every start without a saved curve: a few seconds. Longer rounds are mostly prompts, and the
# curve goes on linearly there; a GPU has steps up to the longest round of CUDA graphs.
QUICK_ON_CPU = GridSize(
    max_tokens=128,
    min_context_tokens=128,
    max_context_tokens=1024,
    num_contexts=2,
    num_repeats=3,
    chunk_tokens=(16, 64, 80),
    chunk_depths=(2048,),
)
QUICK_ON_GPU = GridSize(
    max_tokens=1024,
    min_context_tokens=1024,
    max_context_tokens=131072,
    num_contexts=2,
    num_repeats=3,
    chunk_tokens=(16, 64, 80, 256),
    chunk_depths=(0, 1024, 16384, 131072),
    has_steps=True,
)
# For `goodspeed-verifier profile`.
WHOLE_ON_CPU = GridSize(
    max_tokens=256,
    min_context_tokens=128,
    max_context_tokens=8192,
    num_contexts=3,
    num_repeats=5,
    chunk_tokens=(16, 64, 80, 256),
    chunk_depths=(0, 1024, 8192),
)
WHOLE_ON_GPU = GridSize(
    max_tokens=1 << 20,
    min_context_tokens=1024,
    max_context_tokens=1 << 30,
    num_contexts=5,
    num_repeats=10,
    chunk_tokens=(16, 32, 64, 80, 128, 256, 512),
    chunk_depths=(0, 1024, 4096, 16384, 65536, 131072, 1 << 20),
    has_steps=True,
)


class CurveGrid(msgspec.Struct, frozen=True):
    """Which rounds to measure: every number of tokens with every context, and chunks of prompts."""

    num_tokens: tuple[int, ...]
    context_tokens: tuple[int, ...]
    num_repeats: int
    chunks: tuple[Chunk, ...] = ()

    @classmethod
    def of(cls, target: TargetModel, max_round_tokens: int, size: GridSize) -> CurveGrid:
        """The grid of that size, as far as rounds and the target's cache go."""
        cache_tokens = target.num_blocks * target.block_tokens
        # Of one point no slope is known, so rounds of two tokens are measured always.
        max_tokens = max(min(size.max_tokens, max_round_tokens, cache_tokens), 2)
        max_context = min(size.max_context_tokens, cache_tokens)
        counts = {max_tokens, *(1 << exponent for exponent in range((max_tokens - 1).bit_length()))}
        if size.has_steps:
            ends = stepped_sizes()[:-1]
            counts.update(count for end in ends for count in (end, end + 1) if count < max_tokens)
        return cls(
            num_tokens=tuple(sorted(counts)),
            context_tokens=_space_out(size.min_context_tokens, max_context, size.num_contexts),
            num_repeats=size.num_repeats,
            chunks=_chunks(min(target.context_tokens, cache_tokens), max_round_tokens, size),
        )

    @property
    def num_rounds(self) -> int:
        """Rounds that are run: every point once to warm up, then as often as it is repeated."""
        num_points = len(self.num_tokens) * len(self.context_tokens)
        return num_points * (1 + self.num_repeats) + len(self.chunks) * (1 + _CHUNK_REPEATS)


def measure_curve(
    target: TargetModel,
    grid: CurveGrid,
    subject: CurveSubject | None = None,
    advance: Callable[[], None] = lambda: None,
) -> CostCurve:
    """The curve of all rounds of the grid; `advance` is called after each of them.

    Uses the target's cache from block 0 on: call it before the first stream.
    """
    samples = measure_rounds(target, grid, advance)
    return CostCurve.from_samples(samples, subject, measure_chunks(target, grid, advance))


def measure_rounds(
    target: TargetModel, grid: CurveGrid, advance: Callable[[], None] = lambda: None
) -> list[CostSample]:
    """Seconds of rounds whose streams have a few tokens each."""
    points = list(product(grid.num_tokens, grid.context_tokens))
    rounds = [_make_measured_round(target, *point) for point in points]
    fastest = _fastest(target, rounds, grid.num_repeats, advance)
    return [(*point, seconds) for point, seconds in zip(points, fastest, strict=True)]


def measure_chunks(
    target: TargetModel, grid: CurveGrid, advance: Callable[[], None] = lambda: None
) -> list[ChunkSample]:
    """Seconds of rounds of nothing but a chunk."""
    rounds = [_make_up_chunk(target, chunk) for chunk in grid.chunks]
    fastest = _fastest(target, rounds, _CHUNK_REPEATS, advance)
    return list(zip(grid.chunks, fastest, strict=True))


def _fastest(
    target: TargetModel, rounds: Sequence[Round], num_repeats: int, advance: Callable[[], None]
) -> list[float]:
    """The least seconds of each round."""
    fastest = [math.inf] * len(rounds)
    # All of them again and again, so that a disturbance of a second spoils one repeat of many
    # points and not all repeats of one.
    for number in range(1 + num_repeats):
        for i, round_ in enumerate(rounds):
            started_at = time.monotonic()
            target.run(round_)
            seconds = time.monotonic() - started_at
            if number:  # at first, things are allocated, compiled and captured
                # Never the mean: what else the machine does only adds.
                fastest[i] = min(fastest[i], seconds)
            advance()
    return fastest


def warm_up_rounds(target: TargetModel, max_round_tokens: int) -> list[Round]:
    """Rounds of the forms that running streams have: few long drafts and many short ones.

    The last one has rows that are processed. A GPU compiles, captures and allocates when it meets a
    form for the first time; streams should not wait for that.
    """
    context_tokens = min(1024, target.context_tokens // 2)
    max_count = min(max_round_tokens, MOST_PADDED_TOKENS, target.num_blocks * target.block_tokens)
    rounds = []
    for count, max_length in product(padded_sizes(), (4, 8, 16)):
        for num_streams in {-(-count // max_length), -(-count // 2)}:
            if max_length <= count <= max_count and num_streams * max_length >= count:
                lengths = _lengths(count, num_streams, max_length)
                rounds.append(_make_up_round(target, lengths, context_tokens))
    return [*rounds, *[_with_penalty(round_) for round_ in rounds[:1]]]


def _with_penalty(round_: Round) -> Round:
    """The round with a stream that asks for one."""
    first = round_.items[0]
    assert first.draft_check is not None
    check = msgspec.structs.replace(
        first.draft_check,
        processing=Processing.of(LogitProcessors(presence_penalty=1.0), frozenset()),
        seen=SeenTokens(
            token_ids=np.zeros(1, dtype=np.int64),
            num_written=np.ones(1, dtype=np.float32),
            draft_places=np.zeros(len(first.draft_check.draft_token_ids), dtype=np.int64),
        ),
    )
    return Round((msgspec.structs.replace(first, draft_check=check), *round_.items[1:]))


def _lengths(num_tokens: int, num_streams: int, max_length: int) -> list[int]:
    """As even as can be, beside one of the longest."""
    num_others = max(num_streams - 1, 1)
    num_left = num_tokens - max_length
    return [max_length] + [
        num_left // num_others + (i < num_left % num_others) for i in range(num_streams - 1)
    ]


def _make_measured_round(target: TargetModel, num_tokens: int, context_tokens: int) -> Round:
    """A round of so many tokens and context tokens over all its streams.

    A round of many tokens holds many streams: 8 tokens of each, or fewer where the context is more
    than so many streams can have. It is cut to what one stream for each token can have.
    """
    num_streams = min(
        max(-(-num_tokens // STREAM_TOKENS), -(-context_tokens // target.context_tokens)),
        num_tokens,
    )
    context_of_each = min(context_tokens // num_streams, target.context_tokens)
    lengths = [
        num_tokens // num_streams + (stream < num_tokens % num_streams)
        for stream in range(num_streams)
    ]
    return _make_up_round(target, lengths, context_of_each)


def _make_up_round(target: TargetModel, lengths: Sequence[int], context_of_each: int) -> Round:
    """Greedy checks over whatever the cache holds; the tokens do not matter for the time."""
    items = []
    first_block = 0
    for stream, num_own in enumerate(lengths):
        if num_own:
            num_cached = max(context_of_each - num_own, 0)
            num_blocks = -(-(num_cached + num_own) // target.block_tokens)
            blocks = range(first_block, first_block + num_blocks)
            items.append(
                RoundItem(
                    stream=stream,
                    token_ids=(0,) * num_own,
                    num_cached_tokens=num_cached,
                    # Last blocks that are not full may make the sum more than the cache.
                    block_table=tuple(block % target.num_blocks for block in blocks),
                    draft_check=DraftCheck((0,) * (num_own - 1), (), "coupled", GREEDY, 0, 0, True),
                )
            )
            first_block += num_blocks
    return Round(tuple(items))


def _make_up_chunk(target: TargetModel, chunk: Chunk) -> Round:
    """The last chunk of a prompt: logits are made of one token, and nothing is drafted."""
    num_blocks = -(-sum(chunk) // target.block_tokens)
    check = DraftCheck((), (), "coupled", GREEDY, 0, 0, True)
    token_ids = (0,) * chunk.num_tokens
    return Round((RoundItem(0, token_ids, chunk.depth_tokens, tuple(range(num_blocks)), check),))


def _chunks(stream_tokens: int, max_round_tokens: int, size: GridSize) -> tuple[Chunk, ...]:
    """As deep as a stream of so many tokens is; none where too few fit to tell a slope."""
    counts = [count for count in size.chunk_tokens if count <= min(max_round_tokens, stream_tokens)]
    if len(counts) < 2:
        return ()
    deepest = stream_tokens - counts[-1]
    depths = sorted({min(depth, deepest) for depth in size.chunk_depths})
    return tuple(Chunk(*point) for point in product(counts, depths)) if depths[-1] else ()


def _space_out(low: int, high: int, count: int) -> tuple[int, ...]:
    """Numbers from `low` to `high`, each the same multiple of the one before."""
    if high <= low:
        return (high,)
    ratio = (high / low) ** (1 / (count - 1))
    return tuple(sorted({round(low * ratio**index) for index in range(count - 1)} | {high}))
