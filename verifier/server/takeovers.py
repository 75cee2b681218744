"""Whether a newer connection of a device may end the one that is there.

An agent that comes back over a link of which the verifier still believes the old half takes over at
once. Two agents with one token would do that to each other for ever: after a few times the one that
is connected stays. Pure: `now` is an argument.
"""

from __future__ import annotations

# An agent that is started anew, by hand or after its machine broke down, is another one too.
MAX_TAKEOVERS = 5
# Longer than agents pause after they were refused, so that two of them are never taken for one.
QUIET_SECONDS = 150.0


class Takeovers:
    """Who is connected as one device, and how often that changed hands of late."""

    __slots__ = ("_instance_id", "_latest_at", "_num_takeovers")

    def __init__(self) -> None:
        self._instance_id = 0
        self._num_takeovers = 0
        self._latest_at = 0.0

    def is_allowed(self, instance_id: int, now: float) -> bool:
        """Whether an agent may take over from the one that is connected; 0: it told no id."""
        if instance_id and instance_id == self._instance_id:
            return True
        if now - self._latest_at > QUIET_SECONDS:
            self._num_takeovers = 0
        self._latest_at = now
        self._num_takeovers += 1
        return self._num_takeovers <= MAX_TAKEOVERS

    def connect(self, instance_id: int) -> None:
        """This agent is the one that is connected now."""
        self._instance_id = instance_id
