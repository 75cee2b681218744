"""What the verifier counts as things happen, shown at /metrics.

Gauges, which are read when a scrape asks, stand above what they read (`verifier.server.gauges`).
Names carry the stems of vLLM's and llama-server's metrics. Only registered devices are labels;
prompts and outputs are never in a metric.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import msgspec
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from shared.protocol.transport import BOARD_FRAME_HEADER_BYTES, VERIFIER_FRAME_HEADER_BYTES
from verifier.engine.engine import RoundReport
from verifier.engine.round_watcher import RoundWatcher
from verifier.engine.unhurried import unhurried
from verifier.rounds.planner import StreamResult
from verifier.streams.stream import Stream
from verifier.target.round import ItemFailure

# About a millisecond's work each.
DEVICES_AT_ONCE = 32
SAMPLES_AT_ONCE = 128

_ROUND_BUCKETS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.025),
    *(0.035, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)


class Totals(msgspec.Struct, frozen=True):
    """What was counted since the verifier started, over all devices; the page's own numbers."""

    num_rounds: int
    round_seconds: dict[str, float]  # of all rounds together, by phase
    batch_tokens: float  # of all rounds
    batch_streams: float
    num_output_tokens: int
    num_tested_tokens: int  # draft tokens
    num_accepted_tokens: int
    rejected: dict[str, float]  # messages, streams and connections, by reason


class Metrics:
    """The verifier's registry; `page` renders it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.watchers: list[RoundWatcher] = []  # are told of rounds, too
        self.watch_end: Callable[[Stream], None] = lambda stream: None  # of each that finishes
        ProcessCollector(registry=self.registry)  # memory, processor time, open files
        self._round_seconds = Histogram(
            "goodspeed_round_seconds",
            "Seconds of a round by phase",
            ["phase"],
            buckets=_ROUND_BUCKETS,
            registry=self.registry,
        )
        self._batch_tokens = Histogram(
            "goodspeed_batch_tokens",
            "Tokens in a round: drafts, one of each stream, prompts",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
            registry=self.registry,
        )
        self._batch_streams = Histogram(
            "goodspeed_batch_streams",
            "Streams with a part in a round",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
            registry=self.registry,
        )
        self._of_device: defaultdict[str, _DeviceCounts] = defaultdict(_DeviceCounts)
        self.registry.register(_DeviceCounters(self._of_device))
        self._rejected = Counter(
            "goodspeed_rejected_messages",
            "Messages, streams and connections refused",
            ["reason"],
            registry=self.registry,
        )
        self._finished = Counter(
            "goodspeed_streams_finished",
            "Streams that came to an end, by what ended them",
            ["reason"],
            registry=self.registry,
        )
        self._failures = Counter(
            "goodspeed_item_failures",
            "Streams that ended because their part of a round failed",
            ["cause"],
            registry=self.registry,
        )
        for failure in ItemFailure:
            self._failures.labels(failure.name.lower())  # shown as 0 before the first
        self._resumed = Counter(
            "goodspeed_streams_resumed",
            "Streams that their boards came back to",
            registry=self.registry,
        )

    def observe_round(self, report: RoundReport) -> None:
        """One round is over and its verdicts are out."""
        phases = {
            "plan": report.plan_seconds,
            "forward": report.forward_seconds,
            "sample": report.sampling_seconds,
            "settle": report.settle_seconds,
            "deliver": report.deliver_seconds,
            "follow_up": report.follow_up_seconds,
            "total": report.total_seconds,
            "overhead": report.overhead_seconds,
        }
        for phase, seconds in phases.items():
            self._round_seconds.labels(phase).observe(seconds)
        self._batch_tokens.observe(report.round_.num_tokens)
        self._batch_streams.observe(len(report.round_.items))
        for watcher in self.watchers:
            watcher.observe_round(report)

    def observe_result(self, result: StreamResult) -> None:
        """One stream's part of a round."""
        counts, settled = self._of_device[result.stream.device], result.settled
        counts.num_output += settled.num_tokens
        if settled.num_tested:
            counts.num_drafts += 1
            counts.num_drafted += settled.num_tested
            counts.num_accepted += settled.num_accepted
        if result.failure is not None:
            self._failures.labels(result.failure.name.lower()).inc()
        if result.stream.finish is not None:
            reason = "error" if result.failure else result.stream.finish.reason
            self._finished.labels(reason).inc()
            self.watch_end(result.stream)
        for watcher in self.watchers:
            watcher.observe_result(result)

    def resumed(self) -> None:
        """A board came back to a stream that was kept for it."""
        self._resumed.inc()

    def rejected(self, reason: str) -> None:
        """A message, stream or connection was refused."""
        self._rejected.labels(reason).inc()

    def received(self, device: str, num_bytes: int) -> None:
        self._of_device[device].bytes_received += num_bytes + BOARD_FRAME_HEADER_BYTES

    def sent(self, device: str, num_bytes: int) -> None:
        self._of_device[device].bytes_sent += num_bytes + VERIFIER_FRAME_HEADER_BYTES

    @property
    def num_output_tokens(self) -> int:
        """Of all devices since the start."""
        return sum(counts.num_output for counts in self._of_device.values())

    def totals(self) -> Totals:
        """The counts of all devices together; for any thread."""
        rounds = _sums(self._round_seconds, "phase")
        counts = tuple(self._of_device.values())
        return Totals(
            num_rounds=int(_counted(self._batch_tokens)),
            round_seconds=rounds,
            batch_tokens=_sums(self._batch_tokens)[""],
            batch_streams=_sums(self._batch_streams)[""],
            num_output_tokens=sum([each.num_output for each in counts]),
            num_tested_tokens=sum([each.num_drafted for each in counts]),
            num_accepted_tokens=sum([each.num_accepted for each in counts]),
            rejected=_sums(self._rejected, "reason", "_total"),
        )

    def watch(self, collector: Collector) -> None:
        """Ask a collector of gauges at every scrape."""
        self.registry.register(collector)

    def page(self) -> bytes:
        """The metrics in Prometheus' text format; in a thread: 1,000 devices take 0.3 s."""
        return generate_latest(_Unhurried(self.registry))


def _sums(family: Collector, label: str = "", ending: str = "_sum") -> dict[str, float]:
    """The samples of a family with this ending, by the label."""
    samples = [sample for metric in family.collect() for sample in metric.samples]
    return {s.labels.get(label, ""): s.value for s in samples if s.name.endswith(ending)}


def _counted(family: Histogram) -> float:
    return _sums(family, ending="_count")[""]


class _Unhurried(Collector):
    """A registry whose families are written with pauses."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = _Samples(metric.samples)
            yield metric


class _Samples(list[Sample]):
    def __iter__(self) -> Iterator[Sample]:
        return unhurried(super().__iter__(), SAMPLES_AT_ONCE)


@dataclass(slots=True)
class _DeviceCounts:
    """Plain numbers: at 1,000 streams a round, a counter of the library costs 16 times as much."""

    num_drafts: int = 0
    num_drafted: int = 0
    num_accepted: int = 0
    num_output: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0


class _DeviceCounters(Collector):
    def __init__(self, counts: Mapping[str, _DeviceCounts]) -> None:
        self._counts = counts

    def collect(self) -> Iterable[CounterMetricFamily]:
        drafts = device_counters("spec_decode_num_drafts", "Drafts that a round tested")
        drafted = device_counters(
            "spec_decode_num_draft_tokens", "Draft tokens that a round tested"
        )
        accepted = device_counters(
            "spec_decode_num_accepted_tokens", "Draft tokens that the target accepted"
        )
        output = device_counters(
            "goodput_tokens", "Tokens that were committed: accepted ones and the target's own"
        )
        wire = device_counters("wire_bytes", "Websocket payloads and frame headers", "direction")
        for device, counts in unhurried(tuple(self._counts.items()), DEVICES_AT_ONCE):
            drafts.add_metric([device], counts.num_drafts)
            drafted.add_metric([device], counts.num_drafted)
            accepted.add_metric([device], counts.num_accepted)
            output.add_metric([device], counts.num_output)
            wire.add_metric([device, "received"], counts.bytes_received)
            wire.add_metric([device, "sent"], counts.bytes_sent)
        return drafts, drafted, accepted, output, wire


def device_counters(name: str, text: str, *labels: str) -> CounterMetricFamily:
    """A family of counters, one for each device and further labels."""
    return CounterMetricFamily(f"goodspeed_{name}", text, labels=["device", *labels])
