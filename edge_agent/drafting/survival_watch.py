"""Whether a draft has become too doubtful to go on with, as the verifier prices tokens.

The board learns from verdicts what its own confidence is worth, with the same maps as the verifier
does (`shared.speculation.calibration`), and stops where the chance that all that is drafted
survives falls below what the verifier said. Whether the *next* token is drafted hangs on tokens
that were drawn and are tested anyway, so the text is not biased in any mode. This module must never
look at a token's id or at a row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from edge_agent.drafting.verdict import Committed
from shared.protocol.draft_path import DraftToken
from shared.protocol.messages import AcceptanceMode
from shared.speculation.calibration import CELL_OF, Calibration, StreamFactor, Way


class SurvivalWatch:
    """One stream's; the maps are its board's."""

    __slots__ = ("_factor", "_most_hazard", "_way", "calibration", "is_told")

    def __init__(self, calibration: Calibration | None = None) -> None:
        self.calibration = calibration or Calibration()
        self.is_told = False
        """Whether the verifier wants to know how sure the board is of its drafts."""
        self._factor = StreamFactor()
        self._way = Way.GREEDY
        self._most_hazard = math.inf

    def begin(self, mode: AcceptanceMode, *, is_greedy: bool) -> None:
        """The stream runs from now on as the verifier says; of its price nothing is known yet."""
        self._way = Way.of(mode, is_greedy=is_greedy)
        self._most_hazard = math.inf

    def learn(
        self, live: Sequence[DraftToken], settled: Committed, least_survival: int = 0
    ) -> None:
        """A verdict came on these tokens.

        `least_survival` is where to stop from now on, in 255ths; 0: as before.
        """
        if least_survival:
            self._most_hazard = -math.log(least_survival / 255.0)
        # Where no stream waits, tokens that no round tested met the target's own all the same.
        num_accepted, num_tested = settled.num_accepted, settled.num_tested
        if self._way is not Way.REJECTION:
            num_accepted = settled.num_survived
            num_tested = num_accepted + int(settled.num_dead > 0)
        confidences = bytes([token.confidence for token in live[:num_tested]])
        if not confidences or not all(confidences):
            return
        expected = self.calibration.expected_rejections(self._way, confidences)
        self._factor.observe(expected, num_tested - num_accepted)
        self.calibration.observe(self._way, confidences, num_accepted)

    def is_spent(self, *drafted: Iterable[DraftToken]) -> bool:
        """Whether nothing should be drafted behind these tokens, if there is one that is known."""
        if self._most_hazard == math.inf:
            return False
        hazards = self.calibration.hazards[self._way]
        known = [token.confidence for tokens in drafted for token in tokens if token.confidence]
        hazard = self._factor.value * sum([hazards[CELL_OF[confidence]] for confidence in known])
        return hazard > self._most_hazard
