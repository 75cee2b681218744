"""What an operator sets about draft lengths."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from verifier.policies import BudgetLimits


class ScheduleSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator sets about draft lengths."""

    limits: BudgetLimits
    max_draft_length: int
    max_window: int
    uses_guard: bool  # the target goes on alone where drafts do not pay
    measures_payoff: bool  # and where they are measured not to
    device_weights: Mapping[str, float]  # those other than 1
    device_caps: Mapping[str, int]  # their longest drafts, where less

    @property
    def longest_testable(self) -> int:
        """A chunk must meet the target, so what no round has room for is not granted."""
        limits = self.limits
        budget = self.max_draft_length if limits.budget_tokens is None else limits.budget_tokens
        return min(self.max_draft_length, budget, limits.max_round_tokens - 1)

    def longest_of(self, device: str) -> int:
        """The longest draft of this device's streams."""
        return min(self.max_draft_length, self.device_caps.get(device, self.max_draft_length))
