"""What an operator sets about rounds: a frozen value."""

from __future__ import annotations

import msgspec

from verifier.rounds.admission import PrefixSharing
from verifier.scheduling.schedule import ScheduleSettings


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
