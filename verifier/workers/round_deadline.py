"""How long a round may take at a worker before that is taken for lost: pure."""

from __future__ import annotations

from verifier.cost_curve.curve import CostCurve
from verifier.cost_curve.look_back import chunks_of
from verifier.target.round import Round

# A round beside another program's burst was seen to take 4 times as long as the curve says, and a
# GPU that meets a form of round for the first time captures it in some 0.1 to 0.5 s.
TIMES_EXPECTED = 10.0


class RoundDeadline:
    """The deadline of each round, by the curve of its worker; the least where none is known yet."""

    def __init__(self, least_seconds: float) -> None:
        self._least_seconds = least_seconds
        self._curve: CostCurve | None = None

    def follow(self, curve: CostCurve) -> None:
        """Expect what this curve says, as it learns."""
        self._curve = curve

    def __call__(self, round_: Round) -> float:
        """Seconds from when it is sent; from any thread."""
        if self._curve is None:
            return self._least_seconds
        known = round_.num_tokens, float(round_.context_tokens), chunks_of(round_)
        return max(TIMES_EXPECTED * self._curve.round_seconds(*known), self._least_seconds)
