"""How likely one stream's draft tokens are to survive, by what its board said of them.

A board's maps (`shared.speculation.calibration`) are its device's; the factor is the stream's own,
so a text that goes worse than the board's others is followed at once. This module must never decide
what is tested.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from shared.protocol.draft_path import DraftToken
from shared.speculation.calibration import CELL_OF, Calibration, StreamFactor, Way
from verifier.streams.stream_request import StreamRequest

# By what part `least_survival` may differ from what the board was told.
TOLD_PART = 0.25


def way_of(request: StreamRequest) -> Way:
    """How a stream's drafts are made."""
    return Way.of(request.mode, is_greedy=request.sampling.is_greedy)


class DraftChances:
    """Small mutable state of one stream."""

    __slots__ = ("_told_survival", "best_chance", "factor", "least_survival", "way")

    def __init__(self) -> None:
        self.way = Way.GREEDY
        self.best_chance = 0.0
        """Of its surer tokens, one in five; 0 where the board says nothing of them."""
        self.least_survival = 0.0
        """Behind what survives less often the board should draft nothing; 0: nothing is said."""
        self._told_survival = 0
        self.factor = StreamFactor()

    def learn(
        self,
        calibration: Calibration,
        tokens: Sequence[DraftToken],
        num_accepted: int,
        num_rejected: int,
    ) -> None:
        """So many of these tokens were accepted in turn, and then at most one was not."""
        num_reached = num_accepted + num_rejected
        if not num_reached or not tokens or not tokens[0].confidence:
            return  # a board says it of all its tokens, or of none
        way = self.way
        confidences = bytes([token.confidence for token in tokens[:num_reached]])
        self.factor.observe(calibration.expected_rejections(way, confidences), num_rejected)
        calibration.observe(way, confidences, num_accepted)
        self.best_chance = calibration.best_chances[way]

    def forget_told(self) -> None:
        """The board knows nothing of what it was told before."""
        self._told_survival = 0

    def survival_to_tell(self) -> int:
        """`least_survival` in 255ths; 0: about what the board was told last.

        Said anew only where it has moved by a quarter: another field costs a Verdict 7 bytes.
        """
        if not self.best_chance or not self.least_survival:
            return 0
        least = round(255.0 * self.least_survival)
        told = self._told_survival
        if not least or abs(least - told) <= TOLD_PART * told:
            return 0
        self._told_survival = least
        return least

    def hazards(self, calibration: Calibration, tokens: Sequence[DraftToken]) -> list[float]:
        """-log of the chance of each token to be accepted if those before it are; NaN: unknown."""
        of_cells, factor = calibration.hazards[self.way], self.factor.value
        return [
            factor * of_cells[CELL_OF[token.confidence]] if token.confidence else math.nan
            for token in tokens
        ]
