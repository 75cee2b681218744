"""An Open that comes in parts: put together, and given up when the next part takes too long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from shared.protocol.messages import Open, OpenPart
from shared.protocol.prompt_parts import OpenCollector

# A part of 32 KiB takes 2 s at 128 kbit/s; a board that is alive sends them one after the other.
PART_SECONDS = 30.0
# All of them, so that no device holds a place in the cache by a trickle: half a megabyte, which is
# about 128,000 tokens, at 14 kbit/s.
ALL_PARTS_SECONDS = 300.0


class ArrivingOpen:
    """`take` the parts; `give_up` is called once if they do not come in time, until `stop`."""

    def __init__(self, first: Open, context_tokens: int, give_up: Callable[[], None]) -> None:
        self._collector = OpenCollector(first, context_tokens=context_tokens)
        self._give_up = give_up
        self._loop = asyncio.get_running_loop()
        self._ends_at = self._loop.time() + ALL_PARTS_SECONDS
        self._timer = self._wait()

    def take(self, part: OpenPart) -> Open | None:
        """The whole message with its last part, None before; raises as `OpenCollector.take`."""
        whole = self._collector.take(part)
        self._timer.cancel()
        if whole is None:
            self._timer = self._wait()
        return whole

    def stop(self) -> None:
        """Nothing more is waited for."""
        self._timer.cancel()

    def _wait(self) -> asyncio.TimerHandle:
        at = min(self._loop.time() + PART_SECONDS, self._ends_at)
        return self._loop.call_at(at, self._give_up)
