"""Which devices may have a short prompt read at once, however much longer that makes the round.

One round in so many for each device: so seldom that the slowest verdicts of others, their p99, are
still those of rounds that keep to a device's limit, also where two devices take all their turns.
This module must never know what a round holds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

# Two devices take 1 round in 200, half of those beyond a p99. At 20 ms a round that is 8 s, about
# what lies between two messages of a person.
ROUNDS_BETWEEN_TURNS = 400


class PrefillTurns:
    """The rounds in which devices took their turns, as far as they still count."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}  # number of the round, the oldest first

    def without(self, round_number: int) -> Collection[str]:
        """Devices that have no turn in this round."""
        while self._taken:
            device, taken = next(iter(self._taken.items()))
            if round_number - taken < ROUNDS_BETWEEN_TURNS:
                break
            del self._taken[device]
        return self._taken.keys()

    def take(self, devices: Iterable[str], round_number: int) -> None:
        """These devices had their turn in this round."""
        for device in devices:
            assert device not in self._taken, "it has no turn"
            self._taken[device] = round_number
