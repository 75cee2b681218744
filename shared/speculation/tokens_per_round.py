"""How many tokens one stream's round is expected to give; `goodput` has the same for arrays.

This module must never import numpy: a board without a model drafts without it.
"""

from __future__ import annotations

import math


def tokens_per_round(acceptance_rate: float, draft_length: float) -> float:
    """mu(S), the output tokens (accepted + 1) that a round with this draft should give.

    The rate lies in [0, 1]; the length may be a fraction (a time over the time of a token) or
    infinite. The formula's source and symbols are in `goodput`.
    """
    if acceptance_rate >= 1.0:
        return draft_length + 1.0
    if acceptance_rate <= 0.0:
        return 1.0
    # 1 - a^(S+1) cancels as a nears 1; expm1 keeps all digits, and 1 - a is exact there.
    return -math.expm1((draft_length + 1) * math.log(acceptance_rate)) / (1.0 - acceptance_rate)
