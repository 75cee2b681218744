"""Who looks on while rounds are run: metrics tell a recording."""

from __future__ import annotations

from typing import Protocol

from verifier.engine.engine import RoundReport
from verifier.rounds.planner import StreamResult


class RoundWatcher(Protocol):
    """On the event loop, beside a round that runs: it must take next to no time."""

    def observe_result(self, result: StreamResult) -> None:
        """A stream's part in a round, before that is reported, or its end outside of one."""
        ...

    def observe_round(self, report: RoundReport) -> None:
        """What the round cost whose parts came last."""
        ...
