"""How long a stream waits for its board: as long as an operator set, whatever the board claims.

How fast a board drafts is its own word, and the way of its messages is in its own hand: neither
makes the verifier wait longer. Pure but for what it notes of boards that stay silent. This module
must never decide what becomes of a stream that has waited long enough.
"""

from __future__ import annotations

from collections.abc import Iterable

from verifier.streams.stream import Stream

# A stream whose board has owed a draft for so long gets nowhere: where others wait for room, it
# keeps no place in the cache. Boards that are worth waiting for answer within a few rounds.
IDLE_SECONDS = 1.0


class Patience:
    """Waits for boards that owe a draft, and gives them up."""

    def __init__(self, draft_timeout_seconds: float, *, is_barrier: bool) -> None:
        self.num_draft_timeouts = 0
        self.paused: frozenset[str] = frozenset()  # devices, until an operator lets them go on
        self._draft_timeout_seconds = draft_timeout_seconds
        self._is_barrier = is_barrier

    def is_paused(self, stream: Stream) -> bool:
        """Whether the stream waits for an operator, not for its board."""
        return stream.device in self.paused

    def unpaused(self, streams: Iterable[Stream]) -> list[Stream]:
        """Those that do not wait for an operator."""
        if not self.paused:
            return list(streams)
        return [stream for stream in streams if not self.is_paused(stream)]

    def waits(self, stream: Stream, now: float) -> bool:
        """Whether the stream can have no part in a round yet; a wait that is over ends here."""
        if stream.device in self.paused:
            return True
        if not (stream.awaited_seconds or self._is_barrier or stream.request.mode == "rejection"):
            return False  # nothing is awaited
        until = stream.sits_out_until
        if until is not None:
            if now < min(until, self._deadline(stream)):
                return True
            stream.waited_in_vain()
        if not self._is_awaited(stream):
            return False
        if now < self._deadline(stream):
            return True
        self.num_draft_timeouts += 1
        stream.board_is_ready = False  # until it is heard of again
        return False

    def is_idle(self, stream: Stream, now: float) -> bool:
        """Whether the stream has waited for its board so long that another should have its room."""
        if self.is_paused(stream):
            return True
        is_waiting = stream.waits_for_board or stream.sits_out_until is not None
        return is_waiting and now - stream.waiting_since >= IDLE_SECONDS

    def next_deadline(self, streams: Iterable[Stream]) -> float | None:
        """When the longest wait of these streams for a board ends, if any of them waits."""
        return min(
            (end for s in streams if (end := self._end_of_wait(s)) is not None), default=None
        )

    def _end_of_wait(self, stream: Stream) -> float | None:
        if self.is_paused(stream):
            return None
        deadline, until = self._deadline(stream), stream.sits_out_until
        if until is not None:
            return min(until, deadline)
        return deadline if self._is_awaited(stream) else None

    def _is_awaited(self, stream: Stream) -> bool:
        return stream.waits_for_board or (self._is_barrier and _owes(stream))

    def _deadline(self, stream: Stream) -> float:
        return stream.waiting_since + self._draft_timeout_seconds


def _owes(stream: Stream) -> bool:
    """Whether the board was granted a draft and has sent neither that nor a pass."""
    path = stream.path
    return stream.board_is_ready and stream.window > 0 and not path.live and not path.has_passed
