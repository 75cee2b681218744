"""What the verifier shows at /metrics: counters as things happen, gauges read when asked for.

Names carry the stems of vLLM's and llama-server's metrics.  Only registered devices are labels;
prompts and outputs are never in a metric.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from shared.fairness import jain_index

if TYPE_CHECKING:
    from shared.door import Door
    from verifier.device_limits import DeviceUsage
    from verifier.engine import RoundReport
    from verifier.rounds import RoundPlanner, StreamResult
    from verifier.service import Device

# Rounds whose time is shown as the planner believes it: from one stream alone to many with drafts.
_ESTIMATED_TOKENS = (1, 8, 64, 256)
_ROUND_BUCKETS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.025),
    *(0.035, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)
# Websocket frame header of a payload below 126 bytes, which nearly all are: 2, and 4 of mask.
_FRAME_BYTES_SENT, _FRAME_BYTES_RECEIVED = 2, 6


class Metrics:
    """The verifier's registry; `page` renders it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
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
        self._of_device: defaultdict[str, _DeviceCounts] = defaultdict(_DeviceCounts)
        self.registry.register(_DeviceCounters(self._of_device))
        self._rejected = Counter(
            "goodspeed_rejected_messages",
            "Messages, streams and connections refused",
            ["reason"],
            registry=self.registry,
        )
        self._finished = Counter(
            "goodspeed_streams_finished", "Streams by end", ["reason"], registry=self.registry
        )
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
            "total": report.total_seconds,
            "overhead": report.overhead_seconds,
        }
        for phase, seconds in phases.items():
            self._round_seconds.labels(phase).observe(seconds)
        self._batch_tokens.observe(report.round_.num_tokens)

    def observe_result(self, result: StreamResult) -> None:
        """One stream's part of a round."""
        counts, settled = self._of_device[result.stream.device], result.settled
        counts.num_output += settled.num_accepted + len(settled.token_ids)
        if settled.num_drafted:
            counts.num_drafts += 1
            counts.num_drafted += settled.num_drafted
            counts.num_accepted += settled.num_accepted
        if result.stream.finish is not None:
            reason = "error" if result.failure else result.stream.finish.reason
            self._finished.labels(reason).inc()

    def resumed(self) -> None:
        """A board came back to a stream that was kept for it."""
        self._resumed.inc()

    def rejected(self, reason: str) -> None:
        """A message, stream or connection was refused."""
        self._rejected.labels(reason).inc()

    def received(self, device: str, num_bytes: int) -> None:
        self._of_device[device].bytes_received += num_bytes + _FRAME_BYTES_RECEIVED

    def sent(self, device: str, num_bytes: int) -> None:
        self._of_device[device].bytes_sent += num_bytes + _FRAME_BYTES_SENT

    def watch(self, planner: RoundPlanner, devices: dict[str, Device]) -> None:
        """Read gauges from the planner and the devices at every scrape."""
        self.registry.register(_Gauges(planner, devices))

    def watch_port(self, door: Door, usages: dict[str, DeviceUsage]) -> None:
        """Read how much waits at the port and for the devices at every scrape."""
        self.registry.register(_PortGauges(door, usages))

    def page(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)


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
        drafts = _counters("spec_decode_num_drafts", "Drafts tested")
        drafted = _counters("spec_decode_num_draft_tokens", "Draft tokens tested")
        accepted = _counters("spec_decode_num_accepted_tokens", "Accepted tokens")
        output = _counters("goodput_tokens", "Output tokens")
        wire = _counters("wire_bytes", "Websocket payloads and frame headers", "direction")
        for device, counts in self._counts.items():
            drafts.add_metric([device], counts.num_drafts)
            drafted.add_metric([device], counts.num_drafted)
            accepted.add_metric([device], counts.num_accepted)
            output.add_metric([device], counts.num_output)
            wire.add_metric([device, "received"], counts.bytes_received)
            wire.add_metric([device, "sent"], counts.bytes_sent)
        return drafts, drafted, accepted, output, wire


class _Gauges(Collector):
    def __init__(self, planner: RoundPlanner, devices: dict[str, Device]) -> None:
        self._planner = planner
        self._devices = devices

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        planner = self._planner
        blocks = planner.blocks
        yield _gauge("num_requests_running", "Open streams", len(planner.streams))
        yield _gauge("num_requests_waiting", "Streams without room", len(planner.queue))
        yield _gauge(
            "batch_budget_tokens",
            "Draft tokens that a round may hold",
            planner.latest_schedule.budget_tokens,
        )
        used = 1 - blocks.num_free_blocks / blocks.num_blocks
        yield _gauge("kv_cache_usage_ratio", "Blocks in use", used)
        yield CounterMetricFamily(
            "goodspeed_draft_timeouts", "Drafts never sent", value=planner.num_draft_timeouts
        )
        admission = planner.admission
        yield CounterMetricFamily(
            "goodspeed_preemptions",
            "Streams that lost their place in the cache for a while",
            value=admission.num_preemptions,
        )
        yield CounterMetricFamily(
            "goodspeed_prefix_cache_query_tokens",
            "Tokens of streams when they got a place in the cache",
            value=admission.num_prefix_query_tokens,
        )
        yield CounterMetricFamily(
            "goodspeed_prefix_cache_hit_tokens",
            "Of those, tokens that were in the cache already",
            value=admission.num_prefix_hit_tokens,
        )
        goodputs = [d.estimates.goodput.tokens_per_round for d in self._devices.values()]
        if goodputs:
            yield _gauge("jain_fairness_index", "Of goodput per device", jain_index(goodputs))
        yield self._round_estimates()
        yield from self._per_device()
        yield from self._windows()
        yield self._kept_streams()
        yield from self._per_stream()

    def _round_estimates(self) -> GaugeMetricFamily:
        """What slowdown_limit is applied to: compare it with goodspeed_round_seconds."""
        planner = self._planner
        context_tokens = sum(stream.num_tokens for stream in planner.streams.values())
        family = GaugeMetricFamily(
            "goodspeed_round_seconds_estimate",
            "Seconds that a round of so many tokens is believed to take, at the context of all "
            "open streams",
            labels=["tokens"],
        )
        for count in _ESTIMATED_TOKENS:
            family.add_metric([str(count)], planner.curve.round_seconds(count, context_tokens))
        return family

    def _per_device(self) -> Iterable[GaugeMetricFamily]:
        up = _family("device_up", "Whether the device is connected")
        acceptance = _family("acceptance_estimate", "Estimated acceptance rate")
        speed = _family("device_draft_tokens_per_second", "Drafting speed")
        rtt = _family("rtt_seconds", "Round trip between verifier and board")
        punctuality = _family("punctuality", "Part of the first drafts that came in time")
        for device in self._devices.values():
            up.add_metric([device.name], float(device.outbox is not None))
            acceptance.add_metric([device.name], device.estimates.acceptance.rate)
            seconds = device.estimates.speed.draft_token_seconds
            if seconds:
                speed.add_metric([device.name], 1 / seconds)
            round_trip = device.estimates.speed.round_trip_seconds
            if round_trip is not None:
                rtt.add_metric([device.name], round_trip)
            punctuality.add_metric([device.name], device.estimates.speed.punctuality)
        return up, acceptance, speed, rtt, punctuality

    def _windows(self) -> Iterable[CounterMetricFamily]:
        """What windows are worth: rounds that found drafts, and drafts that found no round."""
        rounds = _counters("window_rounds", "Rounds of streams with a window")
        hits = _counters("window_hits", "Rounds of streams with a window that found live tokens")
        late = _counters("late_draft_tokens", "Draft tokens that came after their position")
        dead = _counters("dead_draft_tokens", "Draft tokens behind one that differed")
        hidden = _counters("hidden_seconds", "Seconds of drafting and travelling nobody waited for")
        for device in self._devices.values():
            counts = device.estimates.windows
            rounds.add_metric([device.name], counts.num_rounds)
            hits.add_metric([device.name], counts.num_hits)
            late.add_metric([device.name], counts.num_late_tokens)
            dead.add_metric([device.name], counts.num_dead_tokens)
            hidden.add_metric([device.name], counts.hidden_seconds)
        return rounds, hits, late, dead, hidden

    def _kept_streams(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "goodspeed_kept_streams",
            "Streams kept for a device to come back: without a connection, or ended",
            labels=["device", "state"],
        )
        for device in self._devices.values():
            family.add_metric([device.name, "parked"], device.kept.num_open)
            family.add_metric([device.name, "ended"], device.kept.num_ended)
        return family

    def _per_stream(self) -> Iterable[GaugeMetricFamily]:
        lengths = _family("draft_length", "Draft length over the device's streams")
        streams = _family("device_streams", "Open streams of the device")
        tokens = _family("device_context_tokens", "Tokens of prompts and outputs of its streams")
        sums: dict[str, tuple[int, int, int]] = {}
        for stream in (*self._planner.streams.values(), *self._planner.queue.values()):
            length, count, context = sums.get(stream.device, (0, 0, 0))
            sums[stream.device] = (
                length + stream.draft_length,
                count + 1,
                context + stream.num_tokens,
            )
        for device, (length, count, context) in sums.items():
            lengths.add_metric([device], length)
            streams.add_metric([device], count)
            tokens.add_metric([device], context)
        return lengths, streams, tokens


class _PortGauges(Collector):
    def __init__(self, door: Door, usages: dict[str, DeviceUsage]) -> None:
        self._door = door
        self._usages = usages

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        yield _gauge("idle_connections", "Connections that ask for nothing", self._door.num_idle)
        yield CounterMetricFamily(
            "goodspeed_connections_sent_away",
            "Connections that asked for nothing and made room for others",
            value=self._door.num_sent_away,
        )
        queued = _family("device_queued_bytes", "Bytes of messages that wait for the board to read")
        exceeded = CounterMetricFamily(
            "goodspeed_device_limits_exceeded",
            "How often a device went beyond one of its limits",
            labels=["device"],
        )
        for device, usage in self._usages.items():
            queued.add_metric([device], usage.num_queued_bytes)
            exceeded.add_metric([device], usage.num_exceeded)
        yield queued
        yield exceeded


def _family(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"goodspeed_{name}", text, labels=["device"])


def _counters(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"goodspeed_{name}", text, labels=["device", *labels])


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"goodspeed_{name}", text, value=value)
