"""From logits to the probabilities that a request asks for: temperature, top-k, top-p.

The float64 reference. The verifier's torch form must agree with it, and the drafter uses it as
it is.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray


class SamplingParameters(msgspec.Struct, frozen=True, array_like=True):
    """How a request turns logits into probabilities; temperature 0 is greedy."""

    temperature: Annotated[float, msgspec.Meta(ge=0, le=100)] = 1.0
    top_k: Annotated[int, msgspec.Meta(ge=0, le=1 << 24)] = 0  # 0: off
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0


GREEDY = SamplingParameters(temperature=0.0)
PLAIN_SAMPLING = SamplingParameters()  # as the model predicts

SamplingField = Literal["temperature", "top_k", "top_p"]


def filled_in(
    sampling: SamplingParameters, left_open: Collection[SamplingField], defaults: SamplingParameters
) -> SamplingParameters:
    """What a request asks for, with `defaults` wherever it is silent."""
    values = {name: getattr(defaults, name) for name in left_open}
    return msgspec.structs.replace(sampling, **values)


def probabilities(
    logits: NDArray[np.floating], sampling: SamplingParameters
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The surviving token ids, most likely first, and their probabilities, both [num_survivors].

    Order of processors: temperature, top-k, top-p. Top-p keeps the smallest most-likely-first
    prefix whose mass reaches `top_p`; ties go to the smaller id. Every returned probability is
    positive.
    """
    if sampling.is_greedy:
        return np.array([np.argmax(logits)], dtype=np.intp), np.ones(1)
    scores = logits.astype(np.float64)
    token_ids = _most_likely_first(scores, sampling.top_k)
    with np.errstate(over="ignore"):  # a tiny temperature makes -inf of all but the largest
        scaled = (scores[token_ids] - scores[token_ids[0]]) / sampling.temperature
    weights = np.exp(scaled)
    probs = weights / weights.sum()
    num_kept = int(np.count_nonzero(probs))  # the rest underflowed, and `draw` takes logarithms
    if sampling.top_p < 1:
        num_needed = 1 + int(np.count_nonzero(np.cumsum(probs)[:-1] < sampling.top_p))
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
