"""Which of the draft tokens that are here a round tests: the policy's word, within caps.

This module must never reserve anything; who packs the round has done so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from shared.speculation.goodput import FloatArray
from verifier.cost_curve.curve import CostCurve
from verifier.policies import DraftPolicy, LiveDrafts, Outlook
from verifier.scheduling.gathered import Read, gather
from verifier.scheduling.outlook import BareRound, Pace, outlook_on
from verifier.scheduling.schedule_settings import ScheduleSettings
from verifier.streams.stream import Stream


def choose_drafts(
    policy: DraftPolicy,
    live: LiveDrafts,
    streams: Sequence[Stream],
    num_tokens: int,
    curve: CostCurve,
    settings: ScheduleSettings,
    pace: Pace,
    read: Read = gather,
) -> Sequence[int]:
    """How many of each stream's live tokens a round tests that has `num_tokens` already.

    `read`: how the streams are gathered, where the policy asks for them.
    """
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
        outlook = outlook_on(round_, read(streams), live.num_testable, curve, pace, weights)
        return outlook._replace(live_hazards=_live_hazards(live, streams))

    return policy.choose(live, look)


def _live_hazards(live: LiveDrafts, streams: Sequence[Stream]) -> FloatArray:
    """Of the testable tokens of those streams that need not be tested whole.

    What a grammar forces is not its board's: nothing is known of it.
    """
    hazards: list[float] = []
    for stream, num_testable, is_whole in zip(
        streams, live.num_testable, live.is_whole, strict=True
    ):
        if not num_testable or is_whole:
            continue
        tokens = () if stream.forced_ids else stream.path.live[:num_testable]
        maps = stream.device_estimates.calibration
        hazards += stream.estimates.chances.hazards(maps, tokens)
        if len(tokens) < num_testable:
            hazards += [math.nan] * (num_testable - len(tokens))
    return np.array(hazards)
