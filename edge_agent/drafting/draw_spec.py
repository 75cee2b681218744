"""How a draft token is to be drawn, and those that no model draws. Pure, and without numpy."""

from __future__ import annotations

import msgspec

from edge_agent.drafting.row_changes import RowChange
from edge_agent.drafting.settings import DraftSettings
from shared.protocol.draft_path import DraftToken
from shared.protocol.messages import MAX_63_BITS, AcceptanceMode
from shared.speculation.confidence import MAX_NGRAM_CONFIDENCE, UNKNOWN_CONFIDENCE
from shared.speculation.sampling import SamplingParameters

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


def certain_token(
    token_id: int, spec: DrawSpec, confidence: int = UNKNOWN_CONFIDENCE
) -> DraftToken:
    """A token that no model drew: in `rejection` from a distribution that knows nothing else.

    Which token, and how sure it is, may depend on nothing but the tokens before it.
    """
    if spec.mode == "coupled" or spec.is_guess:
        return DraftToken(token_id, confidence=confidence)
    return DraftToken(token_id, confidence=MAX_NGRAM_CONFIDENCE, is_certain=True)


def path_seed(seed: int, base: int) -> int:
    """The seed of tokens drafted on the path that began at `base`, in `rejection`.

    What became of a dead path has taught the scheduler, which decides whether and how far to draft
    next: the same noise again would tie that decision to the tokens it leads to.
    """
    return (seed ^ (base + 1) * _GOLDEN_RATIO) & MAX_63_BITS
