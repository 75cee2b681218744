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
from collections.abc import Sequence
from enum import IntEnum
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from shared.speculation.confidence import (
    LEAST_MODEL_CONFIDENCE,
    MAX_CONFIDENCE,
    MAX_NGRAM_CONFIDENCE,
    probability_of,
)

FloatArray = npt.NDArray[np.float64]

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
# A map is drawn anew when it has seen so many more tokens: 60 us, each time later.
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
    """The maps of one board and its draft model; `prior` [num_ways, NUM_CELLS] in hazards."""

    __slots__ = (
        *("_accepted", "_due", "_pending", "_prior", "_reached"),
        *("best_chances", "hazards", "refusals"),
    )

    def __init__(self, prior: FloatArray | None = None) -> None:
        self._prior = usual_hazards() if prior is None else prior
        self._reached = np.zeros((len(Way), NUM_CELLS))
        self._accepted = np.zeros((len(Way), NUM_CELLS))
        # Confidences that the maps have not learned from: few operations a round, see `_learn`.
        self._pending = [(bytearray(), bytearray()) for _ in Way]  # accepted, refused
        self._due = [_FIRST_LEARNED for _ in Way]
        # By way and confidence: plain floats, because rounds look single ones up.
        self.hazards = [_by_confidence(hazards) for hazards in self._prior]
        # The chance of each to be refused where it is reached.
        self.refusals = [_by_confidence(-np.expm1(-hazards)) for hazards in self._prior]
        # By way: what one in `_SURER_PART` of the tokens is worth at least.
        self.best_chances = [_USUAL_BEST_CHANCE for _ in Way]

    def observe(self, way: Way, confidences: bytes, num_accepted: int) -> None:
        """Tokens of a draft that were reached in turn: all were accepted, or all but the last."""
        accepted, refused = self._pending[way]
        accepted += confidences[:num_accepted]
        refused += confidences[num_accepted:]
        if len(accepted) + len(refused) >= self._due[way]:
            self._learn(way)

    def counts(self, way: Way) -> tuple[FloatArray, FloatArray]:
        """Tokens reached and accepted by cell, as far as they are remembered."""
        return self._reached[way], self._accepted[way]

    def _learn(self, way: Way) -> None:
        pending = self._pending[way]
        num_accepted, num_refused = [_count_cells(confidences) for confidences in pending]
        kept = _KEPT ** sum(map(len, pending))
        self._pending[way] = (bytearray(), bytearray())
        self._due[way] = min(2 * self._due[way], _LAST_LEARNED)
        accepted = self._accepted[way] = self._accepted[way] * kept + num_accepted
        reached = self._reached[way] * kept + num_accepted + num_refused
        self._reached[way] = reached
        hazards = fitted_hazards(reached, accepted, self._prior[way])
        self.hazards[way] = _by_confidence(hazards)
        self.refusals[way] = _by_confidence(-np.expm1(-hazards))
        self.best_chances[way] = _best_chance(hazards, reached)


class StreamFactor:
    """By how much one stream's hazards differ from the map at the moment."""

    __slots__ = ("_expected", "_rejections", "value")

    def __init__(self) -> None:
        self._expected = self._rejections = 0.0
        self.value = 1.0

    def observe(self, expected_rejections: float, num_rejected: int) -> None:
        """A draft was tested: the sum of its reached tokens' `refusals`, and if one was refused."""
        self._expected = self._expected * _FACTOR_KEPT + expected_rejections
        self._rejections = self._rejections * _FACTOR_KEPT + num_rejected
        value = (self._rejections + _FACTOR_REJECTIONS) / (self._expected + _FACTOR_REJECTIONS)
        if not _LEAST_FACTOR < value < _LARGEST_FACTOR:
            value = min(max(value, _LEAST_FACTOR), _LARGEST_FACTOR)
        self.value = value


def usual_hazards() -> FloatArray:
    """What confidences are worth as long as nothing is known of the draft [num_ways, NUM_CELLS]."""
    middles = range(LEAST_MODEL_CONFIDENCE + _GROUP // 2, MAX_CONFIDENCE + 1, _GROUP)
    odds = [probability_of(confidence) for confidence in middles]
    log_odds = [_INTERCEPT + _SLOPE * math.log(p / (1.0 - p)) for p in odds]
    chances = [*_NGRAM_CHANCES, *[1.0 / (1.0 + math.exp(-value)) for value in log_odds]]
    assert len(chances) == NUM_CELLS
    hazards: FloatArray = np.tile(-np.log(np.array(chances)), (len(Way), 1))
    return np.clip(hazards, LEAST_HAZARD, LARGEST_HAZARD)


def fitted_hazards(reached: FloatArray, accepted: FloatArray, prior: FloatArray) -> FloatArray:
    """Hazards by cell of a board whose tokens came to this; all [NUM_CELLS]."""
    rejected = float((reached - accepted).sum())
    expected = float((reached * prior).sum())
    factor = (rejected + _PRIOR_REJECTIONS) / (expected + _PRIOR_REJECTIONS)
    usual = np.exp(-factor * prior)
    chances = (accepted + _PRIOR_TOKENS * usual) / (reached + _PRIOR_TOKENS)
    weights = reached + _UNSEEN_TOKENS  # a guess must not outweigh what was seen beside it
    for group in _MONOTONE:
        chances[group] = _not_falling(chances[group].tolist(), weights[group].tolist())
    hazards: FloatArray = np.clip(-np.log(chances), LEAST_HAZARD, LARGEST_HAZARD)
    return hazards


def common_prior(calibrations: Sequence[Calibration]) -> FloatArray:
    """What boards with the same draft have shown, for another one: the median of their maps.

    What is usual counts as two of them, so that one board alone decides nothing, and fewer boards
    that lie than honest ones move little.
    """
    usual = usual_hazards()
    of_boards = [_fitted(calibration, usual) for calibration in calibrations]
    prior: FloatArray = np.median(np.stack([usual, usual, *of_boards]), axis=0)
    return prior


def _fitted(calibration: Calibration, prior: FloatArray) -> FloatArray:
    return np.stack([fitted_hazards(*calibration.counts(way), prior[way]) for way in Way])


def _best_chance(hazards: FloatArray, reached: FloatArray) -> float:
    surest_first = np.argsort(hazards, kind="stable")
    parts = np.cumsum(reached[surest_first]) / reached.sum()
    cell = surest_first[int(np.searchsorted(parts, _SURER_PART))]
    return math.exp(-float(hazards[cell]))


def _count_cells(confidences: bytearray) -> FloatArray:
    cells = np.frombuffer(confidences.translate(CELL_OF), np.uint8)
    return np.bincount(cells, minlength=NUM_CELLS).astype(np.float64)


def _by_confidence(figures: FloatArray) -> list[float]:
    of_cells = figures.tolist()
    return [of_cells[cell] for cell in CELL_OF]


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
