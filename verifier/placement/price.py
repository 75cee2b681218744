"""At which worker a stream is served soonest and costs the others least: its price in log goodput.

With n streams at a worker and T(n) the seconds of its round, another one slows each of them down
by T(n + 1) / T(n) and is itself served every T(n + 1) seconds. In the sum of the logarithms of
tokens per second, which is what a fair verifier makes large (GoodSpeed, arXiv 2512.09963, equation
1), that is n log(T(n + 1) / T(n)) + log T(n + 1). Tokens that the worker has in its cache need not
be read. Pure: offers are values; this module must never look at a planner.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from verifier.cost_curve.curve import CostCurve

# A stream is there for about so long: what its prompt costs once is spread over that.
EXPECTED_LIFE_SECONDS = 10.0
# A chunk of a prompt, whose seconds are taken for those of all of its tokens.
_CHUNK_TOKENS = 256
# A move reads all tokens anew, and prices are beliefs: it must gain this much (log: 10 %).
LEAST_GAIN = 0.1


class Offer(msgspec.Struct, frozen=True):
    """One worker, as a stream without a place sees it."""

    worker: int
    curve: CostCurve
    num_streams: int  # that are there, with a place or waiting for one
    context_tokens: int  # of all of them
    num_cached_tokens: int  # of the asking stream's first ones
    num_free_tokens: int  # that the cache has room for


def price(offer: Offer, num_tokens: int) -> float:
    """What a stream of so many tokens costs here; lower is better."""
    count, context = offer.num_streams, float(offer.context_tokens)
    after = offer.curve.round_seconds(count + 1, context + num_tokens)
    before = offer.curve.round_seconds(count, context) if count else after
    unread = max(num_tokens - offer.num_cached_tokens, 0)
    reading = unread * _prompt_token_seconds(offer.curve, count + 1, context) * (count + 1)
    return count * math.log(after / before) + math.log(after) + reading / EXPECTED_LIFE_SECONDS


def cheapest(offers: Sequence[Offer], num_tokens: int) -> Offer | None:
    """Where the stream should go; of equal ones to that with fewer streams, then to the first.

    A worker whose cache has no room now is asked only where none has. None: there is no offer.
    """
    roomy = [offer for offer in offers if _has_room(offer, num_tokens)]
    return min(
        roomy or offers,
        key=lambda offer: (price(offer, num_tokens), offer.num_streams, offer.worker),
        default=None,
    )


def spread(offers: Sequence[Offer], sizes: Sequence[int]) -> list[int]:
    """Where many streams of so many tokens go, one after the other: a worker for each."""
    chosen, left = [], {offer.worker: offer for offer in offers}
    for num_tokens in sizes:
        offer = cheapest(list(left.values()), num_tokens)
        assert offer is not None, "there are offers"
        left[offer.worker] = _changed(offer, 1, num_tokens)
        chosen.append(offer.worker)
    return chosen


def gain(source: Offer, target: Offer, num_tokens: int) -> float:
    """What the sum of log goodput gains if a stream at the source goes to the target.

    The source's offer counts the stream, the target's does not.
    """
    left = msgspec.structs.replace(
        source,
        num_streams=source.num_streams - 1,
        context_tokens=source.context_tokens - num_tokens,
        num_cached_tokens=num_tokens,
    )
    return price(left, num_tokens) - price(target, num_tokens)


def moves_to(
    newcomer: Offer, others: Sequence[tuple[Offer, Sequence[tuple[int, int]]]]
) -> list[int]:
    """Which streams should go to a worker that joined, so that every single move pays.

    `others`: each worker's offer with number and tokens of its streams. Those with fewest tokens
    are asked first: they are soonest read.
    """
    chosen: list[int] = []
    waiting = {offer.worker: sorted(streams, key=lambda s: s[1]) for offer, streams in others}
    offers = {offer.worker: offer for offer, _ in others}
    while candidates := [worker for worker, streams in waiting.items() if streams]:
        gains = {w: gain(offers[w], newcomer, waiting[w][0][1]) for w in candidates}
        worker = max(candidates, key=lambda w: (gains[w], -w))
        if gains[worker] < LEAST_GAIN:
            return chosen
        number, num_tokens = waiting[worker].pop(0)
        chosen.append(number)
        newcomer = _changed(newcomer, 1, num_tokens)
        offers[worker] = _changed(offers[worker], -1, -num_tokens)
    return chosen


def _has_room(offer: Offer, num_tokens: int) -> bool:
    return offer.num_free_tokens >= num_tokens - offer.num_cached_tokens


def _changed(offer: Offer, num_streams: int, num_tokens: int) -> Offer:
    return msgspec.structs.replace(
        offer,
        num_streams=offer.num_streams + num_streams,
        context_tokens=max(offer.context_tokens + num_tokens, 0),
        num_free_tokens=offer.num_free_tokens - num_tokens,
    )


def _prompt_token_seconds(curve: CostCurve, num_tokens: int, context_tokens: float) -> float:
    with_chunk = curve.round_seconds(num_tokens + _CHUNK_TOKENS, context_tokens + _CHUNK_TOKENS)
    without = curve.round_seconds(num_tokens, context_tokens)
    return max(with_chunk - without, 0.0) / _CHUNK_TOKENS
