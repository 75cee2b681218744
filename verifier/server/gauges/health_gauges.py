"""Metrics of boards' hardware, as the boards tell it; missing where one does not."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily

from verifier.engine.device import Device


def health_families(devices: Iterable[Device]) -> Iterable[GaugeMetricFamily]:
    """Of all devices that have told."""
    celsius = _family("device_celsius", "Temperature of the board's processor, its hottest sensor")
    free = _family("device_free_bytes", "Main memory that the board has free")
    throttled = _family("device_throttled", "Whether heat or supply slow the board down now")
    undervoltage = _family("device_undervoltage", "Whether the board's supply is too low now")
    for device in devices:
        health = device.health
        if health is None:
            continue
        free_bytes = None if health.free_megabytes is None else health.free_megabytes * 1_000_000
        for family, value in (
            (celsius, health.celsius),
            (free, free_bytes),
            (throttled, health.is_slowed),
            (undervoltage, health.is_undervolted),
        ):
            if value is not None:
                family.add_metric([device.name], float(value))
    return celsius, free, throttled, undervoltage


def _family(name: str, documentation: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"goodspeed_{name}", documentation, labels=["device"])
