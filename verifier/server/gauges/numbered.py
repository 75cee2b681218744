"""Families of metrics that have one value for each of several things, by its number.

This module must never know what it counts.
"""

from __future__ import annotations

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily


def gauges(thing: str, name: str, text: str) -> GaugeMetricFamily:
    """`goodspeed_THING_NAME`, labelled with the thing's number."""
    return GaugeMetricFamily(f"goodspeed_{thing}_{name}", text, labels=[thing])


def counters(thing: str, name: str, text: str, *labels: str) -> CounterMetricFamily:
    """The same of what only grows, with further labels behind the number."""
    return CounterMetricFamily(f"goodspeed_{thing}_{name}", text, labels=[thing, *labels])
