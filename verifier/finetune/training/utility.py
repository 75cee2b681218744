"""What a position's acceptance is worth: how much it lengthens rounds, and whose.

The scheduler maximises Σ log goodput. A round whose draft begins at position t gives
1 + a_t + a_t·a_{t+1} + … tokens, up to SPAN drafted, and the mean over all beginnings is the
goodput of a text. Its derivative with respect to one acceptance is the product of what comes
before it within the span, times what follows: a position in the middle of an accepted run counts
more than one behind a hopeless token. Division by a domain's own goodput makes it that of the
logarithm. With TV as the loss, whose gradient is that of acceptance, this is exact.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

SPAN = 6  # draft tokens of a round that are looked at


def expected_round_tokens(acceptance: Tensor, texts: Tensor, span: int = SPAN) -> Tensor:
    """Tokens of a round that begins at each position, the target's own included [positions].

    `texts` names the text of each position, whose positions are neighbours.
    """
    total, survival = torch.ones_like(acceptance), torch.ones_like(acceptance)
    for ahead in range(span):
        survival = survival * _shifted(acceptance, texts, ahead)
        total = total + survival
    return total


def utility_weights(acceptance: Tensor, texts: Tensor, span: int = SPAN) -> Tensor:
    """Σ over rounds of d(expected tokens)/d(acceptance), at each position [positions]."""
    follows, survival = [torch.ones_like(acceptance)], torch.ones_like(acceptance)
    for ahead in range(1, span):
        survival = survival * _shifted(acceptance, texts, ahead)
        follows.append(follows[-1] + survival)
    weights, reached = torch.zeros_like(acceptance), torch.ones_like(acceptance)
    for behind in range(1, span + 1):
        weights = weights + reached * follows[span - behind]
        reached = reached * _shifted(acceptance, texts, -behind)
    return weights


def _shifted(acceptance: Tensor, texts: Tensor, ahead: int) -> Tensor:
    """Acceptance so many positions ahead (negative: behind); 0 beyond the ends of a text."""
    if ahead >= 0:
        pad, kept = (0, ahead), slice(ahead, None)
    else:
        pad, kept = (-ahead, 0), slice(None, ahead)
    is_same = functional.pad(texts, pad, value=-1)[kept] == texts
    return functional.pad(acceptance, pad)[kept] * is_same
