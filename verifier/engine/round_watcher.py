"""Who looks on while rounds are run: the engine's side of a recording."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from verifier.engine.engine import RoundReport
from verifier.rounds.planner import StreamResult


class RoundWatcher(Protocol):
    """On the event loop, beside a round that runs: it must take next to no time."""

    def observe_results(self, results: Sequence[StreamResult]) -> None:
        """What a round, or the end of a stream outside of one, came to; before its report."""
        ...

    def observe_round(self, report: RoundReport) -> None:
        """What the round whose results came last had cost."""
        ...
