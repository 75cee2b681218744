"""Measures how fast a model drafts on this board: one token after the other, as streams do.

It must never run beside other work that can be put off: that would be measured, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

from edge_agent.draft_model.drafter import Drafter, Forward

# Fewer are no measure; a slow board takes longer for them than it was given.
_FEWEST_TOKENS = 4

Choice = TypeVar("Choice", bound=Hashable)


def measure_speed(
    drafter: Drafter, seconds: float, now: Callable[[], float] = time.monotonic
) -> float:
    """Tokens per second, after one token of warm-up; takes about so many seconds."""
    token = (drafter.vocab_size // 2,)
    drafter.forward([Forward(0, token)])
    began_at, num_tokens = now(), 0
    while num_tokens < _FEWEST_TOKENS or now() - began_at < seconds:
        if drafter.num_tokens(0) == drafter.context_tokens:
            break
        drafter.forward([Forward(0, token)])
        num_tokens += 1
    speed = num_tokens / (now() - began_at)
    drafter.truncate(0, 0)
    return speed


def measure_each(
    choices: Iterable[Choice],
    load: Callable[[Choice], Drafter],
    seconds: float,
    deadline: float,
    now: Callable[[], float] = time.monotonic,
) -> dict[Choice, float]:
    """Tokens per second of each choice, the first in any case, others until the deadline."""
    speeds: dict[Choice, float] = {}
    for choice in choices:
        if speeds and now() >= deadline:
            break
        drafter = load(choice)
        try:
            speeds[choice] = measure_speed(drafter, seconds, now)
        finally:
            drafter.close()
    return speeds
