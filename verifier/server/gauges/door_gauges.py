"""What /metrics tells of doors: who holds how many websockets, and how much came through them.

Pure reading. This module must never change what it reads.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from verifier.doors.doors import Doors
from verifier.server.gauges.numbered import counters, gauges


class DoorGauges(Collector):
    """Of each door, by its number."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        up = gauges("door", "up", "Whether the door takes connections")
        connections = gauges("door", "connections", "Connections of boards that the door holds")
        messages = counters("door", "messages", "Messages of boards that came through the door")
        num_bytes = counters("door", "bytes", "Bytes of those messages, without frames")
        lost = counters("door", "lost", "How often the door was lost and started again")
        for number, door in enumerate(self._doors.all):
            up.add_metric([str(number)], float(door.is_open))
            connections.add_metric([str(number)], door.num_connections)
            messages.add_metric([str(number)], door.num_messages)
            num_bytes.add_metric([str(number)], door.num_bytes)
            lost.add_metric([str(number)], door.num_lost)
        yield from (up, connections, messages, num_bytes, lost)
