"""Which of the draft tokens that are here a round tests: the policy's word, within caps.

This module must never reserve anything; who packs the round has done so.
"""

from __future__ import annotations

from collections.abc import Sequence

from verifier.cost_curve.curve import CostCurve
from verifier.policies import DraftPolicy, LiveDrafts, Outlook
from verifier.scheduling.outlook import BareRound, Pace, outlook_on
from verifier.scheduling.schedule import ScheduleSettings
from verifier.streams.stream import Stream


def choose_drafts(
    policy: DraftPolicy,
    live: LiveDrafts,
    streams: Sequence[Stream],
    num_tokens: int,
    curve: CostCurve,
    settings: ScheduleSettings,
    pace: Pace,
) -> Sequence[int]:
    """How many of each stream's live tokens a round tests that has `num_tokens` already."""
    if settings.device_caps:
        pairs = zip(live.num_testable, streams, strict=True)
        capped = [min(count, settings.longest_of(stream.device)) for count, stream in pairs]
        live = live._replace(num_testable=capped)

    def look() -> Outlook:
        round_ = BareRound(
            num_tokens,
            float(sum([stream.num_tokens for stream in streams])),
            min(sum(live.num_testable), live.num_room),
            {stream.device for stream in streams},
        )
        weights = settings.device_weights
        return outlook_on(round_, streams, live.num_testable, curve, pace, weights)

    return policy.choose(live, look)
