"""Several stop strings found in one pass over the bytes of a text, however they are cut.

The automaton of Aho and Corasick (1975): its state is the longest end of the text so far that
begins a stop string, so each byte costs one step, whatever a client asks for. This module must
never know a token.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable


class StopMatcher:
    """Where any of some byte strings ends first; of those that end together the longest counts."""

    __slots__ = ("_depths", "_matches", "_state", "_steps")

    def __init__(self, stop_strings: Iterable[bytes]) -> None:
        self._steps: list[dict[int, int]] = [{}]  # of each state: byte to state
        self._depths = [0]
        self._matches = [0]  # length of the longest stop string that ends in a state; 0: none
        self._state = 0
        for stop_bytes in stop_strings:
            if stop_bytes:
                self._insert(stop_bytes)
        self._link()

    @property
    def num_pending_bytes(self) -> int:
        """How many of the last bytes begin a stop string, and may still become one."""
        return self._depths[self._state]

    def find(self, content: bytes) -> tuple[int, int] | None:
        """Read on; the end of the first stop string in `content` and its length, None: none ends.

        Nothing is read behind it.
        """
        state, steps, matches = self._state, self._steps, self._matches
        for end, byte in enumerate(content, start=1):
            state = steps[state].get(byte, 0)
            if matches[state]:
                self._state = state
                return end, matches[state]
        self._state = state
        return None

    def _insert(self, stop_bytes: bytes) -> None:
        state = 0
        for byte in stop_bytes:
            following = self._steps[state].get(byte)
            if following is None:
                following = len(self._steps)
                self._steps[state][byte] = following
                self._steps.append({})
                self._depths.append(self._depths[state] + 1)
                self._matches.append(0)
            state = following
        self._matches[state] = len(stop_bytes)

    def _link(self) -> None:
        """Let every state go on where its longest shorter end would, so that none has to fall."""
        shorter = [0] * len(self._steps)
        waiting = deque(self._steps[0].values())
        while waiting:
            state = waiting.popleft()
            fallback = shorter[state]
            # Its own match is the longer one.
            self._matches[state] = self._matches[state] or self._matches[fallback]
            for byte, following in self._steps[state].items():
                shorter[following] = self._steps[fallback].get(byte, 0)
                waiting.append(following)
            self._steps[state] = self._steps[fallback] | self._steps[state]
