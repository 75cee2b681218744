"""How many tokens a round is expected to give: the one place of the formula, for both ends.

Symbols of the papers: a is the acceptance rate, S the draft length, and
mu(S) = 1 + a + a^2 + ... + a^S = (1 - a^(S+1)) / (1 - a) is the goodput of one round: the
accepted draft tokens plus the target's own (Leviathan et al. 2023, equation 1; GoodSpeed,
arXiv 2512.09963, equation 5). mu(S) - 1 of them were drafted.
This module must never know a stream, a board or a clock.
"""

from __future__ import annotations

from typing import overload

import numpy as np
import numpy.typing as npt

from shared.speculation.tokens_per_round import tokens_per_round

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@overload
def expected_tokens(acceptance_rate: float, draft_length: float) -> float: ...
@overload
def expected_tokens(acceptance_rate: FloatArray, draft_length: IntArray) -> FloatArray: ...
def expected_tokens(
    acceptance_rate: float | FloatArray, draft_length: float | IntArray
) -> float | FloatArray:
    """mu(S), the output tokens (accepted + 1) that a round with this draft should give.

    Rates lie in [0, 1]; two arrays are taken elementwise. One length may be a fraction (a time
    over the time of a token) or infinite.
    """
    if isinstance(acceptance_rate, np.ndarray) or isinstance(draft_length, np.ndarray):
        return _expected_tokens_of_arrays(np.asarray(acceptance_rate), np.asarray(draft_length))
    return tokens_per_round(acceptance_rate, draft_length)


def expected_tokens_up_to(acceptance_rates: FloatArray, max_draft_length: int) -> FloatArray:
    """mu(1), mu(2), … mu(longest) of many streams, by summing up: [num_streams, longest]."""
    powers = np.repeat(acceptance_rates[:, None], max_draft_length, axis=1).cumprod(axis=1)
    sums: FloatArray = powers.cumsum(axis=1)
    return 1.0 + sums


def _expected_tokens_of_arrays(acceptance_rates: FloatArray, draft_lengths: IntArray) -> FloatArray:
    terms = draft_lengths + 1.0
    with np.errstate(divide="ignore", invalid="ignore"):  # a = 0 and a = 1 are exact limits
        sums = -np.expm1(terms * np.log(acceptance_rates)) / (1.0 - acceptance_rates)
    return np.where(acceptance_rates >= 1.0, terms, sums)
