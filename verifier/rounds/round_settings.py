"""What an operator sets about rounds: a frozen value."""

from __future__ import annotations

import msgspec

from verifier.promises.slo_settings import SloSettings
from verifier.rounds.prefill import PrefillLimits
from verifier.rounds.prefix_names import PrefixSharing
from verifier.scheduling.schedule_settings import ScheduleSettings


class RoundSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator sets about rounds."""

    schedule: ScheduleSettings
    prefill_chunk_tokens: int  # prompt tokens that one round may hold over all streams
    prefill_slowdown_limit: float  # by how much prompts may lengthen the round of others
    device_prefill_slowdown_limit: float  # by how much those of one or two devices may
    reserved_output_tokens: int  # room for output that a stream starts with and asks for anew
    prefix_sharing: PrefixSharing
    draft_timeout_seconds: float
    is_barrier: bool  # wait for every granted draft, as the GoodSpeed paper does
    slo: SloSettings  # what streams are promised at first

    def prefill_limits(self, block_tokens: int) -> PrefillLimits:
        """What of prompts a round may hold, where blocks have so many tokens."""
        return PrefillLimits(
            chunk_tokens=self.prefill_chunk_tokens,
            least_tokens=block_tokens,
            slowdown_limit=self.prefill_slowdown_limit,
            device_slowdown_limit=self.device_prefill_slowdown_limit,
        )
