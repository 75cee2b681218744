"""Long work of a thread beside the event loop, in short pieces.

A thread that never waits takes the interpreter again and again, 5 ms at a time as Python is by
itself, so a page of metrics of 1,000 devices made rounds beside it 0.1 s longer. This module must
never be used on the loop.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

PAUSE_SECONDS = 0.002

Item = TypeVar("Item")


def unhurried(items: Iterable[Item], num_at_once: int) -> Iterator[Item]:
    """The items; all others get on for a moment after each `num_at_once` of them."""
    for i, item in enumerate(items):
        if i and i % num_at_once == 0:
            time.sleep(PAUSE_SECONDS)
        yield item
