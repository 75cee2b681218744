"""From logits to the probabilities that a request asks for: temperature, top-k, top-p.

The float64 reference. The verifier's torch form and its GPU kernel must agree with it, and the
drafter uses it as it is. At ties and infinities all of them do the same (docs/exactness.md):

- of equal logits the smaller ids come first: in greedy, at the end of top-k, at the end of top-p;
- a token of logit -inf is never drawn; a row without a finite largest logit, or with a NaN, is no
  distribution.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared.errors import ModelError
from shared.speculation.sampling import SamplingParameters


class NotADistribution(ModelError):
    """A row of logits that nothing can be drawn from."""

    def __init__(self) -> None:
        super().__init__("logits that are not finite are no distribution")


def probabilities(
    logits: NDArray[np.floating], sampling: SamplingParameters
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The surviving token ids, most likely first, and their probabilities, both [num_survivors].

    Order of processors: temperature, top-k, top-p. Top-p keeps the smallest most-likely-first
    prefix whose mass reaches `top_p`; ties go to the smaller id. Every returned probability is
    positive.

    Raises:
        NotADistribution: the largest logit is not finite, or one is NaN.
    """
    if not np.isfinite(logits.max()):  # NaN wins every maximum
        raise NotADistribution
    if sampling.is_greedy:
        return np.array([np.argmax(logits)], dtype=np.intp), np.ones(1)
    scores = logits.astype(np.float64)
    token_ids = _most_likely_first(scores, sampling.top_k)
    weights = np.exp((scores[token_ids] - scores[token_ids[0]]) / sampling.temperature)
    probs = weights / weights.sum()
    num_kept = int(np.count_nonzero(probs))  # the rest underflowed, and `draw` takes logarithms
    if sampling.top_p < 1:
        # Weights of ties are whole numbers, so that their sums are exact; probabilities are not.
        enough = sampling.top_p * weights.sum()
        num_needed = 1 + int(np.count_nonzero(np.cumsum(weights)[:-1] < enough))
        num_kept = min(num_kept, num_needed)
    kept_probs = probs[:num_kept]
    return token_ids[:num_kept], kept_probs / kept_probs.sum()


def dense_probabilities(
    logits: NDArray[np.floating], sampling: SamplingParameters
) -> NDArray[np.float64]:
    """`probabilities` scattered over the whole vocabulary [vocab_size]."""
    token_ids, probs = probabilities(logits, sampling)
    dense = np.zeros(len(logits))
    dense[token_ids] = probs
    return dense


def _most_likely_first(scores: NDArray[np.float64], top_k: int) -> NDArray[np.intp]:
    if 0 < top_k < len(scores):
        threshold = np.partition(scores, -top_k)[-top_k]
        candidates = np.flatnonzero(scores >= threshold)
    else:
        candidates = np.arange(len(scores), dtype=np.intp)
    order = np.argsort(-scores[candidates], kind="stable")
    ordered = candidates[order]
    return ordered[:top_k] if top_k > 0 else ordered
