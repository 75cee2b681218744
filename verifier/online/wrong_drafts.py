"""Notes where a stream's drafts were wrong, and hands its text to the memory when it ends.

On the event loop, beside rounds that run: it takes next to no time. This module must never look at
a stream of a device that is private.
"""

from __future__ import annotations

from collections.abc import Callable

from verifier.engine.engine import RoundReport
from verifier.online.text_memory import TextMemory
from verifier.rounds.planner import StreamResult

MOST_WRONG = 256  # positions of one stream
MOST_STREAMS = 1024  # at once; of more nothing is noted for a while


class WrongDrafts:
    """Implements `RoundWatcher`."""

    def __init__(self, memory: TextMemory, now: Callable[[], float]) -> None:
        self._memory = memory
        self._now = now
        self._private: frozenset[str] = frozenset()
        self._wrong: dict[int, list[int]] = {}  # positions, by the stream's number

    def keep_private(self, devices: frozenset[str]) -> None:
        """Nothing is kept of these from now on, nor of what was kept before."""
        self._private = devices
        self._memory.forget_devices(devices)

    def observe_result(self, result: StreamResult) -> None:
        """See `RoundWatcher`."""
        stream, settled = result.stream, result.settled
        if stream.device in self._private:
            self._wrong.pop(stream.number, None)
            return
        if settled.num_accepted < settled.num_tested:
            wrong = self._wrong.setdefault(stream.number, [])
            if len(wrong) < MOST_WRONG:
                wrong.append(settled.position + settled.num_accepted)
        if stream.finish is not None or result.failure is not None:
            wrong = self._wrong.pop(stream.number, [])
            self._memory.add(
                *(stream.device, stream.request.prompt_ids, stream.output_ids, wrong),
                self._now(),
                is_greedy=stream.request.sampling.is_greedy,
            )

    def observe_round(self, report: RoundReport) -> None:
        """What a round cost is nothing to it; streams that were discarded are let go of."""
        if len(self._wrong) > MOST_STREAMS:
            self._wrong.clear()
