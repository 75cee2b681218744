"""Speculative sampling, the float64 reference: what is drafted, what is accepted, what is drawn.

    accepted   a draft token that survived
    recovered  the target's token in place of the first rejected one
    bonus      the target's extra token after a draft accepted whole
    output     accepted + (recovered or bonus)

`rejection` is Leviathan et al. 2023, Algorithm 1 (their p is our target_probs, their q our
row.probs); `coupled` is Daliri, Musco, Suresh 2024 with Gumbel noise. The verifier's torch
form is tested against this module on the same random numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.speculation.noise import Domain, gumbel, uniform
from shared.speculation.sparse_row import SparseRow

# Below this mass the residual is rounding noise of target == draft: the target itself is drawn.
SMALLEST_RESIDUAL_MASS = 1e-9


class Verification(msgspec.Struct, frozen=True):
    """What the target made of one draft."""

    num_accepted: int
    token_id: int | None  # recovered or bonus; None after a cut draft accepted whole
    accept_probs: tuple[float, ...]  # `rejection`: min(1, target/draft) of every drafted position


def draw(
    token_ids: NDArray[np.integer],
    weights: NDArray[np.number],
    seed: int,
    position: int,
    domain: Domain,
) -> int:
    """One token id, drawn with probability proportional to its weight (all weights positive)."""
    scores = np.log(weights.astype(np.float64)) + gumbel(seed, position, domain, token_ids)
    return int(token_ids[int(np.argmax(scores))])


def draw_dense(weights: NDArray[np.float64], seed: int, position: int, domain: Domain) -> int:
    """`draw` over a whole vocabulary [vocab_size], zero weights left out."""
    token_ids = np.flatnonzero(weights)
    return draw(token_ids, weights[token_ids], seed, position, domain)


def verify_rejection(
    target_probs: NDArray[np.float64],  # [num_drafted + 1, vocab_size]
    draft_token_ids: Sequence[int],
    rows: Sequence[SparseRow],
    seed: int,
    position: int,  # output position of the first draft token
    *,
    draws_bonus: bool = True,
) -> Verification:
    """Accept token x if u < target(x)/draft(x); recover from max(target - draft, 0)."""
    accept_probs = tuple(
        min(1.0, float(target_probs[i, token_id]) / rows[i].prob_of(token_id))
        for i, token_id in enumerate(draft_token_ids)
    )
    for i, accept_prob in enumerate(accept_probs):
        if uniform(seed, position + i, Domain.ACCEPT) >= accept_prob:
            residual = residual_weights(target_probs[i], rows[i])
            token_id = draw_dense(residual, seed, position + i, Domain.RECOVERED)
            return Verification(i, token_id, accept_probs)
    num_drafted = len(draft_token_ids)
    if not draws_bonus:
        return Verification(num_drafted, None, accept_probs)
    bonus = draw_dense(target_probs[num_drafted], seed, position + num_drafted, Domain.BONUS)
    return Verification(num_drafted, bonus, accept_probs)


def residual_weights(target_probs: NDArray[np.float64], row: SparseRow) -> NDArray[np.float64]:
    """max(target - draft, 0) [vocab_size], or the target where nothing is left."""
    residual = target_probs.copy()
    residual[row.token_ids] -= row.probs
    np.maximum(residual, 0, out=residual)
    return residual if residual.sum() > SMALLEST_RESIDUAL_MASS else target_probs


def verify_coupled(
    target_probs: NDArray[np.float64],  # [num_drafted + 1, vocab_size]
    draft_token_ids: Sequence[int],
    seed: int,
    position: int,
) -> Verification:
    """Accept while the draft equals the token that the target itself draws, with shared noise."""
    for i, probs in enumerate(target_probs):
        token_id = draw_dense(probs, seed, position + i, Domain.COUPLED)
        if i == len(draft_token_ids) or token_id != draft_token_ids[i]:
            return Verification(i, token_id, ())
    raise ValueError("target_probs needs one row more than there are draft tokens")
