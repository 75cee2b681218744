"""What the workers of a verifier offer to a stream: read off their planners.

All block pools are in this process, so how much of a prompt which worker has in its cache is known
exactly. Pure; this module must never change a planner.
"""

from __future__ import annotations

from collections.abc import Mapping

from verifier.placement.price import Offer
from verifier.rounds.planner import RoundPlanner
from verifier.rounds.prefix_names import following_names
from verifier.streams.stream import Stream

# Names are made in steps: most prompts are new, and their first step tells.
_BLOCKS_AT_ONCE = 16
# Of a prompt no more is looked up: 16,384 tokens take 2 ms to name (one core, 2026-11).
_MOST_TOKENS = 1 << 14


def offers_to(stream: Stream, planners: Mapping[int, RoundPlanner]) -> list[Offer]:
    """Of each worker into whose cache the whole stream fits."""
    fitting = {
        worker: planner
        for worker, planner in planners.items()
        if stream.most_tokens <= planner.blocks.num_blocks * planner.blocks.block_tokens
    }
    cached = cached_tokens(stream, fitting)
    return [offer_of(worker, planner, cached[worker]) for worker, planner in fitting.items()]


def offer_of(worker: int, planner: RoundPlanner, num_cached_tokens: int = 0) -> Offer:
    """Of one worker, of whose cached tokens so many are the stream's."""
    streams = (*planner.streams.values(), *planner.queue.values())
    return Offer(
        worker=worker,
        curve=planner.curve,
        num_streams=len(streams),
        context_tokens=sum([stream.num_tokens for stream in streams]),
        num_cached_tokens=num_cached_tokens,
        num_free_tokens=planner.blocks.num_free_blocks * planner.blocks.block_tokens,
    )


def cached_tokens(stream: Stream, planners: Mapping[int, RoundPlanner]) -> dict[int, int]:
    """How many of the stream's first tokens each of these workers has in its cache."""
    found = dict.fromkeys(planners, 0)
    searching = dict(planners)
    name: dict[int, bytes] = {w: p.admission.names.root_of(stream) for w, p in planners.items()}
    while searching:
        for worker, planner in list(searching.items()):
            size = planner.blocks.block_tokens
            num_tokens = size * _BLOCKS_AT_ONCE
            token_ids = stream.tokens(found[worker], found[worker] + num_tokens)
            names = following_names(name[worker], token_ids, size)
            num_known = 0
            while num_known < len(names) and planner.blocks.has_named(names[num_known]):
                num_known += 1
            found[worker] += num_known * size
            if num_known < _BLOCKS_AT_ONCE or found[worker] >= _MOST_TOKENS:
                del searching[worker]
            else:
                name[worker] = names[-1]
    return found
