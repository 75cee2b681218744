"""What /metrics tells of promises: tokens in time and late, who waits, how much longer rounds are.

Pure reading. This module must never change what it reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from verifier.promises.promises import Promises, summed_counts


def slo_families(
    all_promises: Sequence[Promises],
) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
    """The families of a scrape, over the planners of all workers."""
    yield GaugeMetricFamily(
        "goodspeed_slo_waiting_streams",
        "Streams that wait because a promise to them would break others",
        value=sum(len(promises.waiting) for promises in all_promises),
    )
    yield GaugeMetricFamily(
        "goodspeed_slo_round_stretch_ratio",
        "By how much rounds are taken to be longer than expected, at the promised percentile",
        value=max(promises.stretch for promises in all_promises),
    )
    family = CounterMetricFamily(
        "goodspeed_slo_tokens",
        "Output tokens of streams with an SLO behind their first: in time, or late",
        labels=["device", "when"],
    )
    counts = summed_counts([promises.counts for promises in all_promises])
    for device, of_device in counts.items():
        family.add_metric([device, "in_time"], of_device.num_in_time)
        family.add_metric([device, "late"], of_device.num_late)
    yield family
