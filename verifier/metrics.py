"""What the verifier shows at /metrics: counters as things happen, gauges read when asked for.

Names carry the stems of vLLM's and llama-server's metrics.  Only registered devices are labels;
prompts and outputs are never in a metric.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from verifier.fairness import jain_index

if TYPE_CHECKING:
    from verifier.engine import RoundReport
    from verifier.rounds import RoundPlanner, StreamResult
    from verifier.service import Device

# Rounds whose time is shown as the planner believes it: from one stream alone to many with drafts.
_ESTIMATED_TOKENS = (1, 8, 64, 256)
_ROUND_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
# Websocket frame header of a payload below 126 bytes, which nearly all are: 2, and 4 of mask.
_FRAME_BYTES_SENT, _FRAME_BYTES_RECEIVED = 2, 6


class Metrics:
    """The verifier's registry; `page` renders it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
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
        self._drafts = self._per_device("spec_decode_num_drafts", "Drafts tested")
        self._drafted = self._per_device("spec_decode_num_draft_tokens", "Draft tokens tested")
        self._accepted = self._per_device("spec_decode_num_accepted_tokens", "Accepted tokens")
        self._output = self._per_device("goodput_tokens", "Output tokens")
        self._wire = Counter(
            "goodspeed_wire_bytes",
            "Websocket payloads and frame headers",
            ["device", "direction"],
            registry=self.registry,
        )
        self._rejected = Counter(
            "goodspeed_rejected_messages",
            "Messages, streams and connections refused",
            ["reason"],
            registry=self.registry,
        )
        self._finished = Counter(
            "goodspeed_streams_finished", "Streams by end", ["reason"], registry=self.registry
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
        }
        for phase, seconds in phases.items():
            self._round_seconds.labels(phase).observe(seconds)
        self._batch_tokens.observe(report.round_.num_tokens)

    def observe_result(self, result: StreamResult) -> None:
        """One stream's part of a round."""
        device, settled = result.stream.device, result.settled
        self._output.labels(device).inc(settled.num_accepted + len(settled.token_ids))
        if settled.num_drafted:
            self._drafts.labels(device).inc()
            self._drafted.labels(device).inc(settled.num_drafted)
            self._accepted.labels(device).inc(settled.num_accepted)
        if result.stream.finish is not None:
            reason = "error" if result.failure else result.stream.finish.reason
            self._finished.labels(reason).inc()

    def rejected(self, reason: str) -> None:
        """A message, stream or connection was refused."""
        self._rejected.labels(reason).inc()

    def received(self, device: str, num_bytes: int) -> None:
        self._wire.labels(device, "received").inc(num_bytes + _FRAME_BYTES_RECEIVED)

    def sent(self, device: str, num_bytes: int) -> None:
        self._wire.labels(device, "sent").inc(num_bytes + _FRAME_BYTES_SENT)

    def watch(self, planner: RoundPlanner, devices: dict[str, Device]) -> None:
        """Read gauges from the planner and the devices at every scrape."""
        self.registry.register(_Gauges(planner, devices))

    def page(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _per_device(self, name: str, text: str) -> Counter:
        return Counter(f"goodspeed_{name}", text, ["device"], registry=self.registry)


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
        for device in self._devices.values():
            up.add_metric([device.name], float(device.outbox is not None))
            acceptance.add_metric([device.name], device.estimates.acceptance.rate)
            seconds = device.estimates.speed.draft_token_seconds
            if seconds:
                speed.add_metric([device.name], 1 / seconds)
            round_trip = device.estimates.speed.round_trip_seconds
            if round_trip is not None:
                rtt.add_metric([device.name], round_trip)
        return up, acceptance, speed, rtt

    def _per_stream(self) -> Iterable[GaugeMetricFamily]:
        lengths: dict[str, int] = {}
        for stream in self._planner.streams.values():
            lengths[stream.device] = lengths.get(stream.device, 0) + stream.draft_length
        family = _family("draft_length", "Draft length over the device's streams")
        for device, length in lengths.items():
            family.add_metric([device], length)
        return (family,)


def _family(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"goodspeed_{name}", text, labels=["device"])


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"goodspeed_{name}", text, value=value)
