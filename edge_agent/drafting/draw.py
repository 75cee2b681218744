"""From the draft model's logits to one draft token: pure, and fast enough for a small board."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.drafting.changed_row import changed_row
from edge_agent.drafting.draw_spec import DrawSpec
from shared.errors import ModelError
from shared.protocol.draft_path import DraftToken
from shared.speculation.confidence import (
    UNKNOWN_CONFIDENCE,
    confidence_of_probability,
    confidence_of_row,
)
from shared.speculation.logits_confidence import confidence_of_logits
from shared.speculation.noise import Domain
from shared.speculation.probabilities import probabilities
from shared.speculation.quantised_row import quantise
from shared.speculation.sampling import SamplingParameters
from shared.speculation.verification import draw

# A draft distribution may be anything, as long as its numbers are the ones that are sent; beyond
# its most likely entries it costs time and bytes and gains next to nothing: at top-p 0.95 a nucleus
# of SmolLM2-135M holds 11 to 15 tokens on average.
MAX_COUPLED_ENTRIES = 64


def draw_token(spec: DrawSpec, logits: NDArray[np.float32]) -> DraftToken | None:
    """The draft token, or None to stop here; decided on the distribution, before any draw.

    Raises:
        ModelError: the logits are not numbers to draw from.
    """
    logits = logits[: spec.vocab_size]
    if spec.change is not None:
        logits = changed_row(logits, spec.change, spec.sampling)
    if not np.isfinite(logits.max()):  # NaN wins every maximum
        raise ModelError("the draft model gave logits that are not finite")
    if spec.sampling.is_greedy and spec.confidence_stop == 0:
        return DraftToken(int(np.argmax(logits)), confidence=_confidence(spec, logits))
    max_entries = spec.row_entries if spec.mode == "rejection" else MAX_COUPLED_ENTRIES
    token_ids, probs = _likeliest(logits, spec.sampling, max_entries)
    if probs[0] < spec.confidence_stop:
        return None
    if spec.mode == "coupled":
        if spec.sampling.is_greedy:
            return DraftToken(int(token_ids[0]), confidence=_confidence(spec, logits))
        token_id = draw(token_ids, probs, spec.seed, spec.position, Domain.COUPLED)
        return DraftToken(token_id, confidence=confidence_of_probability(float(probs[0])))
    row = quantise(token_ids, probs, spec.row_entries)
    domain = Domain.BONUS if spec.is_guess else Domain.DRAFT
    token_id = draw(row.token_ids, row.weights, spec.seed, spec.position, domain)
    if spec.is_guess:
        return DraftToken(token_id)
    return DraftToken(token_id, row, confidence=confidence_of_row(row))


def _confidence(spec: DrawSpec, logits: NDArray[np.float32]) -> int:
    """How sure a greedy draft is, where that is asked."""
    return confidence_of_logits(logits) if spec.is_rated else UNKNOWN_CONFIDENCE


def _likeliest(
    logits: NDArray[np.float32], sampling: SamplingParameters, max_entries: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    if sampling.is_greedy:  # the probabilities of temperature 1 say how sure the model is
        sampling = SamplingParameters(top_k=max_entries)
    top_k = min(sampling.top_k or max_entries, max_entries, len(logits))
    return probabilities(logits, msgspec.structs.replace(sampling, top_k=top_k))
