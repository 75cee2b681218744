"""What /metrics tells of doors: who holds how many websockets, and how much came through them.

Pure reading. This module must never change what it reads.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from verifier.doors.doors import Doors


class DoorGauges(Collector):
    """Of each door, by its number."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        up = _gauges("door_up", "Whether the door takes connections")
        connections = _gauges("door_connections", "Connections of boards that the door holds")
        messages = _counters("door_messages", "Messages of boards that came through the door")
        num_bytes = _counters("door_bytes", "Bytes of those messages, without frames")
        lost = _counters("door_lost", "How often the door was lost and started again")
        for number, door in enumerate(self._doors.all):
            up.add_metric([str(number)], float(door.is_open))
            connections.add_metric([str(number)], door.num_connections)
            messages.add_metric([str(number)], door.num_messages)
            num_bytes.add_metric([str(number)], door.num_bytes)
            lost.add_metric([str(number)], door.num_lost)
        yield from (up, connections, messages, num_bytes, lost)


def _gauges(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"goodspeed_{name}", text, labels=["door"])


def _counters(name: str, text: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"goodspeed_{name}", text, labels=["door"])
