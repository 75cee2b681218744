"""Whether a board's next stream begins at rest: as the stream that was heard of last.

Without it every new prompt would be read until its first verdict, which is most of the work of a
short answer. Pure. This module must never let a stream rest that has heard otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable

from edge_agent.drafting.stream import AgentStream


class DeviceRest:
    """What the verifier said last, of all streams whose drafts are left to it."""

    __slots__ = ("_rests",)

    def __init__(self) -> None:
        self._rests = False

    def begin(self, stream: AgentStream, others: Iterable[AgentStream]) -> None:
        """A stream begins beside others that go on."""
        for other in others:
            self.note(other)
        stream.rests = self._rests

    def note(self, stream: AgentStream) -> None:
        """A stream ends, or goes on."""
        if stream.drafts:
            self._rests = stream.rests
