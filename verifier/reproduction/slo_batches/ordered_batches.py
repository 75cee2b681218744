"""DiP-SD's plan: ordered batches in a pipeline, and how long a draft each user makes.

While one batch is checked the users of the others draft. With S the time from a batch's check to
its next one, U the tokens that all users get in it, the plan maximises U / S (Xu, Zhou, Niu,
arXiv 2604.20919). The paper solves that by a mixed-integer programme and Dinkelbach's method in
turns; here the batches are cut exactly where all draft equally long, and for each of many times S
the likeliest tokens that fit are drafted.
A check costs what our rounds do, c0 + c1 for each token, and is not padded to the batch's longest
draft as the paper's: that can only help it. This module must never ask what is really accepted.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import NamedTuple

import msgspec
import numpy as np

from shared.speculation.goodput import FloatArray, IntArray, expected_tokens

# Each step of either kind makes the plan better; four are hardly ever needed.
MAX_TURNS = 8
# Of the cycle's time, from all drafts of one token to the longest: so the best is found within 1 %.
NUM_BOUNDS = 24
ROUNDING = 1e-9

Batches = tuple[tuple[int, ...], ...]


class Users(NamedTuple):
    """Who drafts; all arrays are [num_users]."""

    acceptance_rates: FloatArray
    draft_token_seconds: FloatArray
    travel_seconds: FloatArray  # of a draft and its verdict


class CheckTime(NamedTuple):
    """How long a check takes."""

    fixed_seconds: float
    token_seconds: float


class OrderedPlan(msgspec.Struct, frozen=True):
    """Batches in their order, and a draft length for each user."""

    batches: Batches
    lengths: tuple[int, ...]
    tokens_per_second: float  # U / S, as expected


def ordered_plan(users: Users, check: CheckTime, max_length: int) -> OrderedPlan:
    """The best plan found over all numbers of batches from 2 (or 1 user) on."""
    num_users = len(users.acceptance_rates)
    best: OrderedPlan | None = None
    for num_batches in range(min(2, num_users), num_users + 1):
        plan = _with_batches(users, check, max_length, num_batches)
        if best is None or plan.tokens_per_second > best.tokens_per_second + ROUNDING:
            best = plan
        elif num_batches * check.fixed_seconds > cycle_seconds(users, check, best):
            break  # more batches take longer still
    assert best is not None, "there is a user"
    return best


def cycle_seconds(users: Users, check: CheckTime, plan: OrderedPlan) -> float:
    """S: all checks one after another, or the longest way of one batch through both stages."""
    return _span(users, check, plan.batches, np.array(plan.lengths))


def _with_batches(users: Users, check: CheckTime, max_length: int, num_batches: int) -> OrderedPlan:
    best: OrderedPlan | None = None
    lengths = np.full(len(users.acceptance_rates), max(max_length // 2, 1))
    for _ in range(MAX_TURNS):
        batches = cut(users, check, lengths, num_batches)
        lengths, ratio = _longest(users, check, batches, max_length)
        if best is not None and ratio <= best.tokens_per_second + ROUNDING:
            break
        best = OrderedPlan(batches, tuple(lengths.tolist()), ratio)
    assert best is not None, "there is a turn"
    return best


def cut(users: Users, check: CheckTime, lengths: IntArray, num_batches: int) -> Batches:
    """Batches, none of them empty, with the shortest longest way: those who draft long together.

    Exact where all draft equally long; the time of all checks is the same for every cut.
    """
    drafting = lengths * users.draft_token_seconds + users.travel_seconds
    order = np.argsort(-drafting, kind="stable").tolist()
    low, high = 0.0, float(drafting.max() + _check_seconds(check, lengths)) * (1.0 + ROUNDING)
    found = _filled(order, drafting, lengths, check, high)
    for _ in range(50):
        middle = 0.5 * (low + high)
        batches = _filled(order, drafting, lengths, check, middle)
        if batches is not None and len(batches) <= num_batches:
            high, found = middle, batches
        else:
            low = middle
    assert found is not None, "one batch takes all of the time"
    return _split(found, num_batches)


def _filled(
    order: list[int], drafting: FloatArray, lengths: IntArray, check: CheckTime, longest: float
) -> list[list[int]] | None:
    """The longest drafts first, as many in each batch as its way through both stages allows."""
    batches: list[list[int]] = []
    left = -1.0
    for user in order:
        seconds = check.token_seconds * float(lengths[user] + 1)
        if not batches or seconds > left:
            batches.append([])
            left = longest - float(drafting[user]) - check.fixed_seconds
        left -= seconds
        if left < 0.0:
            return None
        batches[-1].append(user)
    return batches


def _split(batches: list[list[int]], num_batches: int) -> Batches:
    """As many batches as there should be: a part of one is never longer on its way."""
    while len(batches) < num_batches:
        largest = max(range(len(batches)), key=lambda i: len(batches[i]))
        half = len(batches[largest]) // 2
        batches[largest : largest + 1] = [batches[largest][:half], batches[largest][half:]]
    return tuple([tuple(batch) for batch in batches])


def _longest(
    users: Users, check: CheckTime, batches: Batches, max_length: int
) -> tuple[IntArray, float]:
    """The lengths with the most tokens a second, and these, over bounds of the cycle's time."""
    shortest = np.ones(len(users.acceptance_rates), dtype=np.int64)
    least = _span(users, check, batches, shortest)
    most = _span(users, check, batches, shortest * max_length)
    found = [
        _within(users, check, batches, max_length, least * (most / least) ** (i / (NUM_BOUNDS - 1)))
        for i in range(NUM_BOUNDS)
    ]
    ratios = [_ratio(users, check, batches, lengths) for lengths in found]
    best = int(np.argmax(ratios))
    return found[best], ratios[best]


def _within(
    users: Users, check: CheckTime, batches: Batches, max_length: int, bound_seconds: float
) -> IntArray:
    """The most tokens of a cycle of at most so many seconds: the likeliest ones first."""
    rates, token_seconds, travel_seconds = (array.tolist() for array in users)
    lengths = [1] * len(rates)
    place = {user: n for n, batch in enumerate(batches) for user in batch}
    tops = [max(token_seconds[user] + travel_seconds[user] for user in batch) for batch in batches]
    checks = [check.fixed_seconds + check.token_seconds * 2 * len(batch) for batch in batches]
    total = sum(checks)
    bound_seconds *= 1.0 + ROUNDING
    heap = [(-rate * rate, user) for user, rate in enumerate(rates)]
    heapify(heap)
    while heap:
        gain, user = heappop(heap)
        n = place[user]
        top = max(tops[n], (lengths[user] + 1) * token_seconds[user] + travel_seconds[user])
        added = check.token_seconds
        if total + added > bound_seconds or top + checks[n] + added > bound_seconds:
            continue  # it will not fit later, for what is there only grows
        lengths[user], tops[n], checks[n], total = (
            *(lengths[user] + 1, top),
            *(checks[n] + added, total + added),
        )
        if lengths[user] < max_length:
            heappush(heap, (gain * rates[user], user))
    return np.array(lengths)


def _ratio(users: Users, check: CheckTime, batches: Batches, lengths: IntArray) -> float:
    tokens = float(expected_tokens(users.acceptance_rates, lengths).sum())
    return tokens / _span(users, check, batches, lengths)


def _span(users: Users, check: CheckTime, batches: Batches, lengths: IntArray) -> float:
    drafting = lengths * users.draft_token_seconds + users.travel_seconds
    checks = sum([_check_seconds(check, lengths[list(batch)]) for batch in batches])
    return max(checks, *[_way(check, drafting, lengths, batch) for batch in batches])


def _way(
    check: CheckTime, drafting: FloatArray, lengths: IntArray, batch: tuple[int, ...]
) -> float:
    members = list(batch)
    return float(drafting[members].max()) + _check_seconds(check, lengths[members])


def _check_seconds(check: CheckTime, lengths: IntArray) -> float:
    return check.fixed_seconds + check.token_seconds * float((lengths + 1).sum())
