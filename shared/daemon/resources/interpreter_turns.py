"""How long a thread that computes in Python keeps the interpreter while another waits for it.

Python's own 5 ms are a quarter of a round, and threads wait for each other in no order: where a
few compute (prompts, stop strings, grammars), the event loop and the target's thread each wait for
several such turns, several times in a round. On a board threads make what is told of long answers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

SWITCH_SECONDS = 0.0005


@contextmanager
def short_turns() -> Iterator[None]:
    """Let no thread of this process keep the others waiting for long; afterwards as before."""
    seconds = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(seconds)
