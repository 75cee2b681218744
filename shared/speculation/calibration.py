"""What a confidence is worth: the chance that a draft token is accepted if those before it were.

One map for each board (its draft model as it is) and way of drafting, learned from what became of
its tokens. It is kept as *hazards*, h = -log(chance), because those add up along a draft: a token
survives with exp(-factor * (h_1 + ... + h_s)). The factor is the stream's own: proportional hazards
with a Gamma prior (a frailty model; Cox 1972, Vaupel et al. 1979), which follows a text within
some ten rounds where the map takes hundreds of tokens. It holds the rejections that came against
those that the map expected, which are fewer than its hazards come to: 1 - exp(-h) for each token.

The map is shrunk towards a prior, and that towards the board's mean; it never falls with the
confidence (isotonic regression). A board that always says it is sure has one cell, and that comes
to its mean acceptance: nothing is gained by the claim. Pure; this module must never know a token.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from enum import IntEnum
from itertools import accumulate, pairwise

from shared.speculation.confidence import (
    LEAST_MODEL_CONFIDENCE,
    MAX_CONFIDENCE,
    MAX_NGRAM_CONFIDENCE,
    probability_of,
)

Cells = Sequence[float]  # a figure of each cell [NUM_CELLS]; so few that numpy is no faster
Hazards = Sequence[Cells]  # [num_ways, NUM_CELLS]

# Bytes of a draft model share a cell by tens, two thirds of a step in log odds.
_GROUP = 10
_FIRST_MODEL_CELL = MAX_NGRAM_CONFIDENCE + 1
NUM_CELLS = _FIRST_MODEL_CELL + (MAX_CONFIDENCE - LEAST_MODEL_CONFIDENCE) // _GROUP + 1
CELL_OF = bytes(
    confidence
    if confidence < LEAST_MODEL_CONFIDENCE
    else _FIRST_MODEL_CELL + (confidence - LEAST_MODEL_CONFIDENCE) // _GROUP
    for confidence in range(MAX_CONFIDENCE + 1)
)
# Within each the chance may only grow; a row that was looked up is a group of its own.
_MONOTONE = (
    slice(1, MAX_NGRAM_CONFIDENCE),
    slice(_FIRST_MODEL_CELL, NUM_CELLS),
)
# Of n-grams by matched tokens, and of a looked up row (edge_agent/drafting/drafter_choice.py).
_NGRAM_CHANCES = (0.3, 0.3, 0.45, 0.6, *[0.75] * (MAX_NGRAM_CONFIDENCE - 4), 0.6)
# Draft models are right more often than they claim: log odds of acceptance over those of the
# likeliest token, SmolLM2-135M Q2_K and Q4_0 under Q4_1 (acceptance 0.43 / 0.64 / 0.83 / 0.94 /
# 0.97 / 0.99 where the likeliest has < 0.3 / 0.5 / 0.7 / 0.85 / 0.95 / 1; 2026-11).
_INTERCEPT, _SLOPE = 1.0, 0.95
# No cell is worth nothing, and none is certain.
LEAST_HAZARD, LARGEST_HAZARD = 0.003, 3.0

# What the prior counts like, in tokens of a cell; and in rejections, for the board's mean.
_PRIOR_TOKENS = 6.0
_PRIOR_REJECTIONS = 4.0
_UNSEEN_TOKENS = 0.1
# Older tokens fade: a board's map is that of its model, the texts are followed by the factor.
_KEPT = 1.0 - 1.0 / 4096
# A map is drawn anew when it has seen so many more tokens: 80 us, each time later.
_FIRST_LEARNED, _LAST_LEARNED = 8, 512

_SURER_PART = 0.2
_USUAL_BEST_CHANCE = 0.95

# Of a stream's factor: what its prior counts like, and what a round keeps of those before it.
_FACTOR_REJECTIONS = 3.0
_FACTOR_KEPT = 0.97
_LEAST_FACTOR, _LARGEST_FACTOR = 0.3, 8.0


class Way(IntEnum):
    """How a board drafts: what its confidence is worth differs."""

    GREEDY = 0
    COUPLED = 1
    REJECTION = 2

    @classmethod
    def of(cls, mode: str, *, is_greedy: bool) -> Way:
        """Of a stream's acceptance mode and sampling."""
        if mode == "rejection":
            return cls.REJECTION
        return cls.GREEDY if is_greedy else cls.COUPLED


class Calibration:
    """The maps of one board and its draft model, learned from a prior on."""

    __slots__ = (
        *("_accepted", "_due", "_pending", "_prior", "_reached", "_refusals"),
        *("best_chances", "hazards"),
    )

    def __init__(self, prior: Hazards | None = None) -> None:
        self._prior = usual_hazards() if prior is None else prior
        # Arrays: a list holds a float apart for each figure, so boards would grow as they learn.
        self._reached = [array("d", bytes(8 * NUM_CELLS)) for _ in Way]
        self._accepted = [array("d", bytes(8 * NUM_CELLS)) for _ in Way]
        # Confidences that the maps have not learned from: few operations a round, see `_learn`.
        self._pending = [(bytearray(), bytearray()) for _ in Way]  # reached, of these refused
        self._due = [_FIRST_LEARNED for _ in Way]
        # By way and cell (`CELL_OF`): no numpy, because rounds look single ones up; and no figure
        # of each confidence, because a round of many boards waits for the memory of each.
        self.hazards = [array("d", hazards) for hazards in self._prior]
        # The chance of each to be refused where it is reached.
        self._refusals = [_refusals(hazards) for hazards in self._prior]
        # By way: what one in `_SURER_PART` of the tokens is worth at least.
        self.best_chances = [_USUAL_BEST_CHANCE for _ in Way]

    def observe(self, way: Way, confidences: bytes, num_accepted: int) -> None:
        """Tokens of a draft that were reached in turn: all were accepted, or all but the last."""
        reached, refused = self._pending[way]
        reached += confidences
        if num_accepted < len(confidences):
            refused.append(confidences[-1])
        if len(reached) >= self._due[way]:
            self._learn(way)

    def expected_rejections(self, way: Way, confidences: bytes) -> float:
        """How many of these tokens, which were all reached, the map expected to be refused."""
        return sum(map(self._refusals[way].__getitem__, confidences.translate(CELL_OF)))

    def counts(self, way: Way) -> tuple[Cells, Cells]:
        """Tokens reached and accepted by cell, as far as they are remembered."""
        return self._reached[way], self._accepted[way]

    def _learn(self, way: Way) -> None:
        reached, refused = [Counter(pending.translate(CELL_OF)) for pending in self._pending[way]]
        kept = _KEPT ** reached.total()
        self._pending[way] = (bytearray(), bytearray())
        self._due[way] = min(2 * self._due[way], _LAST_LEARNED)
        self._accepted[way] = _faded(self._accepted[way], kept, reached - refused)
        self._reached[way] = _faded(self._reached[way], kept, reached)
        hazards = fitted_hazards(self._reached[way], self._accepted[way], self._prior[way])
        self.hazards[way] = array("d", hazards)
        self._refusals[way] = _refusals(hazards)
        self.best_chances[way] = _best_chance(hazards, self._reached[way])


class StreamFactor:
    """By how much one stream's hazards differ from the map at the moment."""

    __slots__ = ("_expected", "_rejections", "value")

    def __init__(self) -> None:
        self._expected = self._rejections = 0.0
        self.value = 1.0

    def observe(self, expected_rejections: float, num_rejected: int) -> None:
        """A draft was tested: rejections that its map expected, and if one token was refused."""
        self._expected = self._expected * _FACTOR_KEPT + expected_rejections
        self._rejections = self._rejections * _FACTOR_KEPT + num_rejected
        value = (self._rejections + _FACTOR_REJECTIONS) / (self._expected + _FACTOR_REJECTIONS)
        if not _LEAST_FACTOR < value < _LARGEST_FACTOR:
            value = min(max(value, _LEAST_FACTOR), _LARGEST_FACTOR)
        self.value = value


def usual_hazards() -> Hazards:
    """What confidences are worth as long as nothing is known of the draft."""
    middles = range(LEAST_MODEL_CONFIDENCE + _GROUP // 2, MAX_CONFIDENCE + 1, _GROUP)
    odds = [probability_of(confidence) for confidence in middles]
    log_odds = [_INTERCEPT + _SLOPE * math.log(p / (1.0 - p)) for p in odds]
    chances = [*_NGRAM_CHANCES, *[1.0 / (1.0 + math.exp(-value)) for value in log_odds]]
    assert len(chances) == NUM_CELLS
    return [[_hazard(chance) for chance in chances]] * len(Way)


def fitted_hazards(reached: Cells, accepted: Cells, prior: Cells) -> list[float]:
    """Hazards by cell of a board whose tokens came to this."""
    rejected = sum(reached, 0.0) - sum(accepted, 0.0)
    expected = sum([tokens * hazard for tokens, hazard in zip(reached, prior, strict=True)])
    factor = (rejected + _PRIOR_REJECTIONS) / (expected + _PRIOR_REJECTIONS)
    chances = [
        (right + _PRIOR_TOKENS * math.exp(-factor * hazard)) / (tokens + _PRIOR_TOKENS)
        for tokens, right, hazard in zip(reached, accepted, prior, strict=True)
    ]
    weights = [tokens + _UNSEEN_TOKENS for tokens in reached]  # a guess counts less than what is
    for group in _MONOTONE:  # seen beside it
        chances[group] = _not_falling(chances[group], weights[group])
    return [_hazard(chance) for chance in chances]


def common_prior(calibrations: Sequence[Calibration]) -> Hazards:
    """What boards with the same draft have shown, for another one: the median of their maps.

    What is usual counts as two of them, so that one board alone decides nothing, and fewer boards
    that lie than honest ones move little.
    """
    usual = usual_hazards()
    prior = []
    for way in Way:
        maps = [fitted_hazards(*each.counts(way), usual[way]) for each in calibrations]
        cells = zip(usual[way], usual[way], *maps, strict=True)
        prior.append([_median(hazards) for hazards in cells])
    return prior


def _hazard(chance: float) -> float:
    hazard = -math.log(chance) if chance > 0.0 else math.inf
    return min(max(hazard, LEAST_HAZARD), LARGEST_HAZARD)


def _median(values: Sequence[float]) -> float:
    ordered, middle = sorted(values), len(values) // 2
    return ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2.0


def _best_chance(hazards: Cells, reached: Cells) -> float:
    surest_first = sorted(range(NUM_CELLS), key=hazards.__getitem__)
    enough = _SURER_PART * sum(reached)
    sums = accumulate(reached[cell] for cell in surest_first)
    cell = next(cell for cell, tokens in zip(surest_first, sums, strict=True) if tokens >= enough)
    return math.exp(-hazards[cell])


def _faded(counts: array[float], kept: float, more: Counter[int]) -> array[float]:
    """What is kept of these counts, and so many more by cell."""
    counts = array("d", [kept * tokens for tokens in counts])
    for cell, number in more.items():
        counts[cell] += number
    return counts


def _refusals(hazards: Cells) -> array[float]:
    return array("d", [-math.expm1(-hazard) for hazard in hazards])


def _not_falling(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The nearest values that do not fall: neighbours that do are pooled (Ayer et al. 1955)."""
    blocks: list[tuple[float, float, int]] = []  # mean, weight, length
    for value, weight in zip(values, weights, strict=True):
        block = (value, weight, 1)
        while blocks and blocks[-1][0] > block[0]:
            before, before_weight, length = blocks.pop()
            total = before_weight + block[1]
            mean = (before * before_weight + block[0] * block[1]) / total
            block = (mean, total, length + block[2])
        blocks.append(block)
    pooled = [value for value, _, length in blocks for _ in range(length)]
    assert all(first <= second for first, second in pairwise(pooled))
    return pooled
