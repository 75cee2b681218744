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
# Where a client chooses how much a thread computes: the target's thread and the loop wait for
# several turns each, 2 to 6 ms of a round (Xeon, 32 cores, 2026-11). Two threads that compute take
# 15 to 20 % more processor time for it.
CLIENT_SWITCH_SECONDS = 0.0001


@contextmanager
def short_turns(seconds: float = SWITCH_SECONDS) -> Iterator[None]:
    """Let no thread of this process keep the others waiting for long; afterwards as before.

    In one thread at a time: another that ends later would bring its own "before" back.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
