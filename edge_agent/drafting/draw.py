"""From the draft model's logits to one draft token: pure, and fast enough for a small board."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.drafting.row_changes import RowChange
from edge_agent.drafting.settings import DraftSettings
from shared.errors import ModelError
from shared.protocol.draft_path import DraftToken
from shared.protocol.messages import MAX_63_BITS, AcceptanceMode
from shared.speculation.confidence import (
    UNKNOWN_CONFIDENCE,
    confidence_of_logits,
    confidence_of_probability,
    confidence_of_row,
)
from shared.speculation.noise import Domain
from shared.speculation.sampling import SamplingParameters, probabilities
from shared.speculation.sparse_row import WEIGHT_TOTAL, SparseRow, quantise
from shared.speculation.verification import draw

# A draft distribution may be anything, as long as its numbers are the ones that are sent; beyond
# its most likely entries it costs time and bytes and gains next to nothing: at top-p 0.95 a nucleus
# of SmolLM2-135M holds 11 to 15 tokens on average.
MAX_COUPLED_ENTRIES = 64
# 2**64 over the golden ratio: spreads small numbers over all bits (Knuth's multiplicative hash).
_GOLDEN_RATIO = 0x9E3779B97F4A7C15


class DrawSpec(msgspec.Struct, frozen=True):
    """How the token at one position is to be drawn."""

    mode: AcceptanceMode
    sampling: SamplingParameters
    seed: int
    position: int
    vocab_size: int  # the target's: ids beyond it are never drawn
    is_guess: bool  # `rejection`: guess the bonus token; never tested, so it needs no row
    row_entries: int
    confidence_stop: float  # draft nothing here when the likeliest token is less likely than this
    change: RowChange | None = None  # what the request does to the row first
    is_rated: bool = True  # the verifier asks how sure the draft is: a look at the whole row

    def confidence(self, logits: NDArray[np.float32]) -> int:
        """How sure a greedy draft is, where that is asked."""
        return confidence_of_logits(logits) if self.is_rated else UNKNOWN_CONFIDENCE


def draw_token(spec: DrawSpec, logits: NDArray[np.float32]) -> DraftToken | None:
    """The draft token, or None to stop here; decided on the distribution, before any draw.

    Raises:
        ModelError: the logits are not numbers to draw from.
    """
    logits = logits[: spec.vocab_size]
    if spec.change is not None:
        logits = spec.change.applied(logits, spec.sampling)
    if not np.isfinite(logits.max()):  # NaN wins every maximum
        raise ModelError("the draft model gave logits that are not finite")
    if spec.sampling.is_greedy and spec.confidence_stop == 0:
        return DraftToken(int(np.argmax(logits)), confidence=spec.confidence(logits))
    max_entries = spec.row_entries if spec.mode == "rejection" else MAX_COUPLED_ENTRIES
    token_ids, probs = _likeliest(logits, spec.sampling, max_entries)
    if probs[0] < spec.confidence_stop:
        return None
    if spec.mode == "coupled":
        if spec.sampling.is_greedy:
            return DraftToken(int(token_ids[0]), confidence=spec.confidence(logits))
        token_id = draw(token_ids, probs, spec.seed, spec.position, Domain.COUPLED)
        return DraftToken(token_id, confidence=confidence_of_probability(float(probs[0])))
    row = quantise(token_ids, probs, spec.row_entries)
    domain = Domain.BONUS if spec.is_guess else Domain.DRAFT
    token_id = draw(row.token_ids, row.weights, spec.seed, spec.position, domain)
    if spec.is_guess:
        return DraftToken(token_id)
    return DraftToken(token_id, row, confidence=confidence_of_row(row))


def certain_token(
    token_id: int, spec: DrawSpec, confidence: int = UNKNOWN_CONFIDENCE
) -> DraftToken:
    """A token that no model drew: in `rejection` from a distribution that knows nothing else.

    Which token, and how sure it is, may depend on nothing but the tokens before it.
    """
    if spec.mode == "coupled" or spec.is_guess:
        return DraftToken(token_id, confidence=confidence)
    row = SparseRow(
        token_ids=np.array([token_id], dtype=np.uint32),
        weights=np.array([WEIGHT_TOTAL], dtype=np.uint16),
    )
    return DraftToken(token_id, row, confidence=confidence_of_row(row))


def path_seed(seed: int, base: int) -> int:
    """The seed of tokens drafted on the path that began at `base`, in `rejection`.

    What became of a dead path has taught the scheduler, which decides whether and how far to draft
    next: the same noise again would tie that decision to the tokens it leads to.
    """
    return (seed ^ (base + 1) * _GOLDEN_RATIO) & MAX_63_BITS


def _likeliest(
    logits: NDArray[np.float32], sampling: SamplingParameters, max_entries: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    if sampling.is_greedy:  # the probabilities of temperature 1 say how sure the model is
        sampling = SamplingParameters(top_k=max_entries)
    top_k = min(sampling.top_k or max_entries, max_entries, len(logits))
    return probabilities(logits, msgspec.structs.replace(sampling, top_k=top_k))


def draw_spec(
    mode: AcceptanceMode,
    sampling: SamplingParameters,
    settings: DraftSettings,
    seed: int,
    base: int,
    position: int,
    vocab_size: int,
    change: RowChange | None = None,
    *,
    is_guess: bool,
    is_rated: bool = True,
) -> DrawSpec:
    """How the token at a position of the path that began at `base` is to be drawn."""
    is_shared = mode == "coupled" or is_guess  # the verifier draws with this noise, too
    return DrawSpec(
        mode=mode,
        sampling=sampling,
        seed=seed if is_shared else path_seed(seed, base),
        position=position,
        vocab_size=vocab_size,
        is_guess=is_guess,
        row_entries=settings.row_entries,
        confidence_stop=0.0 if is_guess else settings.confidence_stop,
        change=change,
        is_rated=is_rated,
    )
