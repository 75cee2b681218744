"""What a draft token costs, and what streams would get without any: figures for people.

Pure. This module must never be asked by what decides.
"""

from __future__ import annotations

from verifier.scheduling.draft_plan import DraftPlan
from verifier.scheduling.measured_payoff import MeasuredPayoff


def token_price_seconds(plan: DraftPlan) -> float:
    """Seconds that one more draft token in a round costs all of its devices together.

    What the token adds to the round, by the cost curve, once for each device that waits for it.
    """
    return max(plan.token_seconds, 0.0) * len(plan.devices)


def alone_tokens_per_second(plan: DraftPlan, payoff: MeasuredPayoff) -> float | None:
    """What the target alone would give each open stream; None: no round was planned yet.

    As it was measured for those who chat; where that never was, a token in each round that takes
    as long as the cost curve says.
    """
    measured = payoff.alone_tokens_per_second
    if measured is not None:
        return measured
    return 1.0 / plan.round_seconds if plan.round_seconds > 0.0 else None


def of_alone_ratio(
    tokens_per_second: float | None, num_streams: int, alone: float | None
) -> float | None:
    """A device's output over what the target alone would give its streams; None: not known."""
    if tokens_per_second is None or alone is None or not num_streams:
        return None
    return tokens_per_second / (num_streams * alone)
