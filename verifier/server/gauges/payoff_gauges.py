"""What /metrics tells of whether drafts pay: as measured, for each device, and what a token costs.

Pure reading. This module must never change what it reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from verifier.engine.device import Device
from verifier.engine.unhurried import unhurried
from verifier.rounds.planner import RoundPlanner
from verifier.scheduling.draft_trial import Arm
from verifier.scheduling.token_price import (
    alone_tokens_per_second,
    of_alone_ratio,
    token_price_seconds,
)

_STREAMS_AT_ONCE = 256  # some 0.2 ms


def payoff_families(
    planner: RoundPlanner,
    devices: Iterator[Device],
    more_planners: Sequence[RoundPlanner] = (),
) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
    """The families of a scrape; of several workers one tells of all, streams are counted."""
    payoff, plan = planner.payoff, planner.draft_plan
    yield GaugeMetricFamily(
        "goodspeed_drafts_rest",
        "Whether boards draft nothing, because that is measured to be faster or just measured",
        value=float(payoff.arm is Arm.ALONE),
    )
    if payoff.drafts_over_none is not None:
        yield GaugeMetricFamily(
            "goodspeed_drafts_over_none_ratio",
            "Tokens per second with drafts over those without, measured last where these chat",
            value=payoff.drafts_over_none,
        )
    yield CounterMetricFamily(
        "goodspeed_payoff_lost_seconds",
        "What measuring has cost, in seconds of all streams",
        value=payoff.lost_seconds,
    )
    yield GaugeMetricFamily(
        "goodspeed_draft_token_price_seconds",
        "Seconds that one more draft token of a round costs all devices in it together",
        value=token_price_seconds(plan),
    )
    family = GaugeMetricFamily(
        "goodspeed_device_of_alone_ratio",
        "Output tokens per second of late over those that the target alone would give",
        labels=["device"],
    )
    alone = alone_tokens_per_second(plan, payoff)
    counts: Counter[str] = Counter()
    for one in (planner, *more_planners):
        for stream in unhurried(tuple(one.streams.values()), _STREAMS_AT_ONCE):
            counts[stream.device] += 1
    for device in devices:
        speed = device.estimates.goodput.tokens_per_second
        ratio = of_alone_ratio(speed, counts[device.name], alone)
        if ratio is not None:
            family.add_metric([device.name], ratio)
    yield family
