"""Draft policies behind one interface, used by the verifier and by the simulator.

Policies are pure and must never import the server, the engine or the simulator.
"""

from __future__ import annotations

from typing import Literal, assert_never

import numpy as np

from verifier.policies.awc_policy import AwcPolicy
from verifier.policies.awc_weights import SHIPPED, SHIPPED_WAITING, read_weights
from verifier.policies.budgeted import BudgetedPolicy, affordable, first_come
from verifier.policies.draft_policy import (
    MEMORY_LENGTH,
    BudgetLimits,
    DraftPolicy,
    LengthPlan,
    LiveDrafts,
    OpenStreams,
    Outlook,
    RoundTimes,
)
from verifier.policies.fixed import FixedPolicy
from verifier.policies.goodspeed import GoodspeedPolicy
from verifier.policies.greedy import GreedyPolicy
from verifier.policies.random_split import RandomPolicy
from verifier.policies.rate import RatePolicy
from verifier.policies.threshold import ThresholdPolicy

__all__ = [
    "MEMORY_LENGTH",
    "AwcPolicy",
    "BudgetLimits",
    "BudgetedPolicy",
    "DraftPolicy",
    "FixedPolicy",
    "GoodspeedPolicy",
    "GreedyPolicy",
    "LengthPlan",
    "LiveDrafts",
    "OpenStreams",
    "Outlook",
    "PolicyName",
    "RandomPolicy",
    "RatePolicy",
    "RoundTimes",
    "ThresholdPolicy",
    "affordable",
    "first_come",
    "policy_named",
]

PolicyName = Literal["goodspeed", "rate", "fixed", "random", "greedy", "threshold", "awc"]


def policy_named(
    name: PolicyName, *, fixed_length: int | None = None, seed: int = 0
) -> DraftPolicy:
    """A new policy; `fixed_length` is for "fixed" alone and `seed` for "random" alone."""
    match name:
        case "goodspeed":
            return GoodspeedPolicy()
        case "rate":
            return RatePolicy()
        case "fixed":
            return FixedPolicy(fixed_length)
        case "random":
            return RandomPolicy(np.random.default_rng(seed))
        case "greedy":
            return GreedyPolicy()
        case "threshold":
            return ThresholdPolicy()
        case "awc":
            return AwcPolicy(read_weights(SHIPPED)[0], read_weights(SHIPPED_WAITING)[0])
        case _:
            assert_never(name)
