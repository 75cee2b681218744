"""How likely one stream's draft tokens are to survive, by what its board said of them.

A board's maps (`shared.speculation.calibration`) are its device's; the factor is the stream's own,
so a text that goes worse than the board's others is followed at once. This module must never decide
what is tested.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from shared.protocol.draft_path import DraftToken
from shared.speculation.calibration import Calibration, StreamFactor, Way
from verifier.streams.stream_request import StreamRequest


def way_of(request: StreamRequest) -> Way:
    """How a stream's drafts are made."""
    if request.mode == "rejection":
        return Way.REJECTION
    return Way.GREEDY if request.sampling.is_greedy else Way.COUPLED


class DraftChances:
    """Small mutable state of one stream."""

    __slots__ = ("best_chance", "factor", "way")

    def __init__(self) -> None:
        self.way = Way.GREEDY
        self.best_chance = 0.0
        """Of its surer tokens, one in five; 0 where the board says nothing of them."""
        self.factor = StreamFactor()

    def learn(
        self,
        calibration: Calibration,
        tokens: Sequence[DraftToken],
        num_accepted: int,
        num_rejected: int,
    ) -> None:
        """So many of these tokens were accepted in turn, and then at most one was not."""
        reached = tokens[: num_accepted + num_rejected]
        if not reached or not reached[0].confidence:
            return  # a board says it of all its tokens, or of none
        confidences = [token.confidence for token in reached]
        hazards = calibration.hazards[self.way]
        self.factor.observe(sum([hazards[each] for each in confidences]), num_rejected)
        calibration.observe(self.way, confidences, num_accepted)
        self.best_chance = calibration.best_chances[self.way]

    def hazards(self, calibration: Calibration, tokens: Sequence[DraftToken]) -> list[float]:
        """-log of the chance of each token to be accepted if those before it are; NaN: unknown."""
        of_bytes, factor = calibration.hazards[self.way], self.factor.value
        return [
            factor * of_bytes[token.confidence] if token.confidence else math.nan
            for token in tokens
        ]
