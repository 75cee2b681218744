"""How likely a draft token is to be accepted at one position of a target's text.

Pure: exact probabilities by both distributions, nothing is drawn, so few texts say much. The
draft's distribution is cut and rounded as boards do. It must never see more of the target than a
row of held-out texts.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.drafting.draw import MAX_COUPLED_ENTRIES
from shared.protocol.held_out_texts import HeldOutText, JudgedMode, TargetRow
from shared.speculation.probabilities import probabilities
from shared.speculation.quantised_row import quantise
from shared.speculation.sampling import SamplingParameters

# As many as a board sends by default (draft.row_entries).
_ROW_ENTRIES = 32
_COOL = SamplingParameters(temperature=0.8, top_p=0.95)


class Rule(StrEnum):
    """Ways to accept."""

    GREEDY = "greedy"
    COOL_REJECTION = "0.8 rejection"
    COOL_COUPLED = "0.8 coupled"
    WHOLE = "1 whole rows"  # what no link could carry: the draft's distribution uncut
    PLAIN_REJECTION = "1 rejection"


RULES_OF_MODE: dict[JudgedMode, tuple[Rule, ...]] = {
    "greedy": (Rule.GREEDY,),
    "0.8": (Rule.COOL_REJECTION, Rule.COOL_COUPLED),
    "1": (Rule.WHOLE, Rule.PLAIN_REJECTION),
}


def acceptances(
    text: HeldOutText, position: int, draft_logits: NDArray[np.float32]
) -> tuple[float, ...]:
    """By the rules of the text's mode, in their order."""
    match text.mode:
        case "greedy":
            return (float(int(np.argmax(draft_logits)) == text.token_ids[position]),)
        case "0.8":
            row = text.row(position)
            return _rejection(row, draft_logits, _COOL), _coupled(row, draft_logits)
        case "1":
            row = text.row(position)
            plain = SamplingParameters()
            return _whole(row, draft_logits), _rejection(row, draft_logits, plain)


def _rejection(
    row: TargetRow, draft_logits: NDArray[np.float32], sampling: SamplingParameters
) -> float:
    """Σ min(target, draft), of the row that a board sends (Leviathan et al. 2023)."""
    cut = msgspec.structs.replace(sampling, top_k=_ROW_ENTRIES)
    sent = quantise(*probabilities(draft_logits, cut), _ROW_ENTRIES)
    target, draft = _over_the_same(row, sent.token_ids, sent.probs)
    return float(np.minimum(target, draft).sum())


def _whole(row: TargetRow, draft_logits: NDArray[np.float32]) -> float:
    scores = draft_logits.astype(np.float64)
    weights = np.exp(scores - scores.max())
    return float(np.minimum(row.probs, weights[row.token_ids] / weights.sum()).sum())


def _coupled(row: TargetRow, draft_logits: NDArray[np.float32]) -> float:
    """Both ends draw with the same noise: Σ_i 1/Σ_j max(p_j/p_i, q_j/q_i) (Daliri et al. 2024)."""
    cut = msgspec.structs.replace(_COOL, top_k=MAX_COUPLED_ENTRIES)
    token_ids, probs = probabilities(draft_logits, cut)
    target, draft = _over_the_same(row, token_ids, probs)
    both = np.flatnonzero((target > 0) & (draft > 0))
    # In parts of one side each: what a token has there, over what token i has.
    higher = np.maximum(target[None] / target[both, None], draft[None] / draft[both, None])
    return float((1.0 / higher.sum(1)).sum())


def _over_the_same(
    row: TargetRow, token_ids: NDArray[np.integer], probs: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both distributions over the tokens that either has."""
    union = np.union1d(row.token_ids, token_ids)
    target, draft = np.zeros(len(union)), np.zeros(len(union))
    target[np.searchsorted(union, row.token_ids)] = row.probs
    draft[np.searchsorted(union, token_ids)] = probs
    return target, draft


def rounds_of(accepted: NDArray[np.float64], draft_length: int) -> tuple[float, float]:
    """Expected rounds of a text and the tokens that they give, as one follows the other.

    A round ends with the first token that is not accepted, and the next one begins behind the
    target's own. That is not the mean over all positions: where runs of accepted tokens come
    together, rounds begin more often at their ends than within (a chain with runs: 2.40 tokens a
    round of 4, and 2.88 over all positions). Only rounds with a whole draft ahead count.
    """
    starts = np.zeros(len(accepted) + draft_length + 2)
    starts[0], num_tokens, num_rounds = 1.0, 0.0, 0.0
    for place in range(len(accepted) - draft_length + 1):
        survival = accepted[place : place + draft_length].cumprod()
        reached = np.concatenate(([1.0], survival))  # by each token of the draft, and past it
        ends = reached - np.append(survival, 0.0)
        starts[place + 1 : place + draft_length + 2] += starts[place] * ends
        num_rounds += starts[place]
        num_tokens += starts[place] * reached.sum()
    return num_rounds, num_tokens
