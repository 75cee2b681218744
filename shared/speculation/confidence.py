"""How sure a drafter is of a token before that is drawn, in one byte, and what each byte means.

A confidence is a function of what was known before the token: of the draft model's own row (how
likely its likeliest token is) or of the n-gram that matched. It says nothing of which token was
drawn, so a scheduler may decide by it what to test, in every mode: in `rejection` a choice by the
drawn token's own probability would bias the text (Leviathan et al. 2023, Theorem 3.5, holds for a
draft whose length is decided before its last token is drawn).

It is no probability of acceptance: what it is worth is learned. Pure; this module must never look
at a drawn token.
"""

from __future__ import annotations

import math

from shared.speculation.sparse_row import SparseRow

# An older board does not say, and neither does a test's.
UNKNOWN_CONFIDENCE = 0
# From 1 on: what an n-gram suggests, by the tokens that matched.
MAX_NGRAM_CONFIDENCE = 15
# From 16 on: log odds of the likeliest token of a draft model's row. 0.2 of a step is far below
# what any calibration tells apart; the ends are odds of 1 to 50 and 160,000 to 1.
LEAST_MODEL_CONFIDENCE, MAX_CONFIDENCE = 16, 255
_LEAST_LOG_ODDS, _LOG_ODDS_A_STEP = -4.0, 1.0 / 15.0
# A row that holds a single token: its odds are not known beyond that.
LARGEST_ODDS = 1e9


def confidence_of_odds(odds: float) -> int:
    """The byte of a row whose likeliest token has these odds, p / (1 - p)."""
    log_odds = math.log(min(max(odds, 1e-9), LARGEST_ODDS))
    steps = round((log_odds - _LEAST_LOG_ODDS) / _LOG_ODDS_A_STEP)
    return min(max(LEAST_MODEL_CONFIDENCE + steps, LEAST_MODEL_CONFIDENCE), MAX_CONFIDENCE)


def confidence_of_probability(largest: float) -> int:
    """The byte of a row whose likeliest token has this probability."""
    return confidence_of_odds(largest / max(1.0 - largest, 1.0 / LARGEST_ODDS))


def confidence_of_row(row: SparseRow) -> int:
    """The byte of the row that a `rejection` board sends anyway: it need not send the byte.

    A row of one token was looked up (or is as sure): how long the n-gram was it does not say.
    """
    weights = row.weights.tolist()
    if len(weights) == 1:
        return MAX_NGRAM_CONFIDENCE
    return confidence_of_odds(weights[0] / (sum(weights) - weights[0]))


def confidence_of_ngram(num_matched: int) -> int:
    """The byte of a token that followed so many tokens (at least 1) before."""
    return min(max(num_matched, 1), MAX_NGRAM_CONFIDENCE - 1)


def probability_of(confidence: int) -> float:
    """How likely the likeliest token is of a draft model that is as sure as this byte says."""
    steps = max(confidence, LEAST_MODEL_CONFIDENCE) - LEAST_MODEL_CONFIDENCE
    return 1.0 / (1.0 + math.exp(-_LEAST_LOG_ODDS - steps * _LOG_ODDS_A_STEP))
