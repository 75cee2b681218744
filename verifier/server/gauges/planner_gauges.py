"""What /metrics reads when it is asked: gauges of streams, devices, the cache and the port.

A page is made in a thread of its own while the event loop goes on, so what is looked through is
copied first, in one step. Only registered devices are labels; prompts and outputs are never in a
metric.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from shared.daemon.connection_gate import ConnectionGate
from verifier.engine.device import Device
from verifier.engine.fleet_fairness import fairness_of
from verifier.engine.metrics import DEVICES_AT_ONCE, device_counters
from verifier.engine.unhurried import unhurried
from verifier.rounds.planner import RoundPlanner
from verifier.server.device_limits import DeviceUsage
from verifier.server.gauges.health_gauges import health_families
from verifier.server.gauges.payoff_gauges import payoff_families
from verifier.server.gauges.slo_gauges import slo_families
from verifier.server.loop_shares import LoopShares
from verifier.streams.position_counts import SHOWN_POSITIONS, name_of, shown

_STREAMS_AT_ONCE = 256  # some 0.2 ms

# Rounds whose time is shown as the planner believes it: from one stream alone to many with drafts.
_ESTIMATED_TOKENS = (1, 8, 64, 256)


class PlannerGauges(Collector):
    """Of streams, rounds, the cache, and of each device."""

    def __init__(
        self,
        planner: RoundPlanner,
        devices: dict[str, Device],
        planners: Callable[[], Sequence[RoundPlanner]] | None = None,
    ) -> None:
        """`planners` of all workers, as they are now: what can be summed up is the sum of all."""
        self._planner = planner
        self._planners = planners or (lambda: (planner,))
        self._devices = devices

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        planners = self._planners()
        yield _gauge(
            "num_requests_running",
            "Open streams with a place in the cache",
            sum(len(planner.streams) for planner in planners),
        )
        yield _gauge(
            "num_requests_waiting",
            "Streams that wait for a place in the cache",
            sum(len(planner.queue) for planner in planners),
        )
        yield _gauge(
            "batch_budget_tokens",
            "Draft tokens that a round may hold",
            sum(planner.draft_plan.budget_tokens for planner in planners),
        )
        pools = [planner.blocks for planner in planners]
        num_free = sum(pool.num_free_blocks for pool in pools)
        used = 1 - num_free / sum(pool.num_blocks for pool in pools)
        yield _gauge("kv_cache_usage_ratio", "Part of the blocks of the cache that is in use", used)
        yield CounterMetricFamily(
            "goodspeed_draft_timeouts",
            "Drafts that boards owed for too long",
            value=sum(planner.patience.num_draft_timeouts for planner in planners),
        )
        admissions = [planner.admission for planner in planners]
        yield CounterMetricFamily(
            "goodspeed_preemptions",
            "Streams that lost their place in the cache for a while",
            value=sum(admission.num_preemptions for admission in admissions),
        )
        yield CounterMetricFamily(
            "goodspeed_prefix_cache_query_tokens",
            "Tokens of streams when they got a place in the cache",
            value=sum(admission.num_prefix_query_tokens for admission in admissions),
        )
        yield CounterMetricFamily(
            "goodspeed_prefix_cache_hit_tokens",
            "Of those, tokens that were in the cache already",
            value=sum(admission.num_prefix_hit_tokens for admission in admissions),
        )
        fairness = fairness_of(self._all_devices())
        if fairness.jain_index is not None:
            yield _gauge(
                "jain_fairness_index",
                "Fairness of tokens per round over devices: 1 if all are equal",
                fairness.jain_index,
            )
        if fairness.log_goodput is not None:
            yield _gauge(
                "log_goodput",
                "Sum over devices of the natural logarithm of their tokens per second",
                fairness.log_goodput,
            )
        yield self._round_estimates()
        yield from self._per_device()
        yield from health_families(self._all_devices())
        yield from self._windows()
        yield from self._positions()
        yield self._kept_streams()
        yield from self._per_stream()
        yield from self._cache_shares()
        yield from slo_families([planner.promises for planner in planners])
        yield from payoff_families(self._planner, self._all_devices(), planners[1:])

    def _all_devices(self) -> Iterator[Device]:
        return unhurried(tuple(self._devices.values()), DEVICES_AT_ONCE)

    def _round_estimates(self) -> GaugeMetricFamily:
        """What slowdown_limit is applied to: compare it with goodspeed_round_seconds."""
        planner = self._planner
        context_tokens = sum(stream.num_tokens for stream in tuple(planner.streams.values()))
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
        acceptance = _family(
            "acceptance_estimate", "How often the next draft token is believed to survive"
        )
        speed = _family(
            "device_draft_tokens_per_second", "Draft tokens that the board makes in a second"
        )
        rtt = _family("rtt_seconds", "Round trip between verifier and board")
        punctuality = _family("punctuality", "Part of the first drafts that came in time")
        goodput = _family("goodput_tokens_per_second", "Output tokens of late, waiting included")
        for device in self._all_devices():
            up.add_metric([device.name], float(device.outbox is not None))
            acceptance.add_metric([device.name], device.estimates.acceptance.rate)
            seconds = device.estimates.speed.draft_token_seconds
            if seconds:
                speed.add_metric([device.name], 1 / seconds)
            round_trip = device.estimates.speed.round_trip_seconds
            if round_trip is not None:
                rtt.add_metric([device.name], round_trip)
            punctuality.add_metric([device.name], device.estimates.speed.punctuality)
            tokens_per_second = device.estimates.goodput.tokens_per_second
            if tokens_per_second is not None:
                goodput.add_metric([device.name], tokens_per_second)
        return up, acceptance, speed, rtt, punctuality, goodput

    def _windows(self) -> Iterable[CounterMetricFamily]:
        """What windows are worth: rounds that found drafts, and drafts that found no round."""
        rounds = device_counters("window_rounds", "Rounds of streams with a window")
        hits = device_counters(
            "window_hits", "Rounds of streams with a window that found live tokens"
        )
        late = device_counters("late_draft_tokens", "Draft tokens that came after their position")
        dead = device_counters("dead_draft_tokens", "Draft tokens behind one that differed")
        hidden = device_counters(
            "hidden_seconds", "Seconds of drafting and travelling that no round waited for"
        )
        switches = device_counters(
            "mode_switches",
            "Streams that the target wrote alone from then on (fused), or no longer (distributed)",
            "mode",
        )
        for device in self._all_devices():
            counts = device.estimates.windows
            switches.add_metric([device.name, "fused"], counts.num_to_fused)
            switches.add_metric([device.name, "distributed"], counts.num_to_distributed)
            rounds.add_metric([device.name], counts.num_rounds)
            hits.add_metric([device.name], counts.num_hits)
            late.add_metric([device.name], counts.num_late_tokens)
            dead.add_metric([device.name], counts.num_dead_tokens)
            hidden.add_metric([device.name], counts.hidden_seconds)
        return rounds, hits, late, dead, hidden, switches

    def _positions(self) -> Iterable[CounterMetricFamily]:
        """How far drafts come: accepted / reached is the acceptance rate at a position."""
        reached = device_counters(
            "draft_tokens_reached",
            "Draft tokens that a verdict came to, by position from the first one tested",
            "position",
        )
        accepted = device_counters(
            "draft_tokens_accepted", "Of those, tokens that were accepted", "position"
        )
        for device in self._all_devices():
            of_device = device.estimates.positions.bars()
            for family, bars in zip((reached, accepted), of_device, strict=True):
                for positions, num_tokens in zip(SHOWN_POSITIONS, shown(bars), strict=False):
                    family.add_metric([device.name, name_of(positions)], num_tokens)
        return reached, accepted

    def _kept_streams(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "goodspeed_kept_streams",
            "Streams kept for a device to come back: without a connection, or ended",
            labels=["device", "state"],
        )
        for device in self._all_devices():
            family.add_metric([device.name, "parked"], device.kept.num_open)
            family.add_metric([device.name, "ended"], device.kept.num_ended)
        return family

    def _per_stream(self) -> Iterable[GaugeMetricFamily]:
        lengths = _family("draft_length", "Draft length over the device's streams")
        streams = _family("device_streams", "Open streams of the device")
        tokens = _family("device_context_tokens", "Tokens of prompts and outputs of its streams")
        fused = _family(
            "device_fused_streams",
            "Open streams of the device that the target writes alone for now",
        )
        sums: dict[str, tuple[int, int, int, int]] = {}
        held = [h for planner in self._planners() for h in (planner.streams, planner.queue)]
        streams_now = tuple(chain.from_iterable([tuple(streams.values()) for streams in held]))
        for stream in unhurried(streams_now, _STREAMS_AT_ONCE):
            length, count, context, num_fused = sums.get(stream.device, (0, 0, 0, 0))
            sums[stream.device] = (
                length + stream.draft_length,
                count + 1,
                context + stream.num_tokens,
                num_fused + stream.estimates.mode.is_fused,
            )
        for device, (length, count, context, num_fused) in sums.items():
            lengths.add_metric([device], length)
            streams.add_metric([device], count)
            tokens.add_metric([device], context)
            fused.add_metric([device], num_fused)
        return lengths, streams, tokens, fused

    def _cache_shares(self) -> Iterable[GaugeMetricFamily]:
        """Who holds the cache, and who waits for it."""
        held = _family("device_cache_blocks", "Blocks of the cache that the device's streams hold")
        waiting = _family(
            "device_waiting_seconds",
            "How long a stream of the device waits to start: for room in the cache, or a promise",
        )
        num_held: Counter[str] = Counter()
        longest: dict[str, float] = {}
        for planner in self._planners():
            num_held.update(planner.admission.held_blocks())
            for device, seconds in planner.admission.waiting_seconds(time.monotonic()).items():
                longest[device] = max(seconds, longest.get(device, 0.0))
        for device, num_blocks in num_held.items():
            held.add_metric([device], num_blocks)
        for device, seconds in longest.items():
            waiting.add_metric([device], seconds)
        return held, waiting


class PortGauges(Collector):
    """Of connections, and of what waits for the devices."""

    def __init__(
        self,
        gate: ConnectionGate,
        usages: dict[str, DeviceUsage],
        shares: LoopShares,
        expires_at: Callable[[], float | None] = lambda: None,
    ) -> None:
        """`expires_at`: of the port's certificate, in seconds since 1970; None: plain text."""
        self._gate = gate
        self._usages = usages
        self._shares = shares
        self._expires_at = expires_at

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        yield _gauge("idle_connections", "Connections that ask for nothing", self._gate.num_idle)
        expires_at = self._expires_at()
        if expires_at is not None:
            yield _gauge(
                "certificate_expires_timestamp_seconds",
                "When the port's certificate expires, in seconds since 1970; only with TLS",
                expires_at,
            )
        yield CounterMetricFamily(
            "goodspeed_connections_sent_away",
            "Connections that asked for nothing and made room for others",
            value=self._gate.num_sent_away,
        )
        strangers = self._gate.strangers
        yield CounterMetricFamily(
            "goodspeed_strangers_refused",
            "Connections and requests without a token that were too many",
            value=0 if strangers is None else strangers.num_refused,
        )
        queued = _family("device_queued_bytes", "Bytes of messages that wait for the board to read")
        exceeded = CounterMetricFamily(
            "goodspeed_device_limits_exceeded",
            "How often a device went beyond one of its limits",
            labels=["device"],
        )
        for device, usage in unhurried(tuple(self._usages.items()), DEVICES_AT_ONCE):
            queued.add_metric([device], usage.num_queued_bytes)
            exceeded.add_metric([device], usage.num_exceeded)
        loop = device_counters(
            "device_loop_seconds", "Seconds of the event loop that the device's messages took"
        )
        spent = tuple(self._shares.spent_seconds.items())
        for device, seconds in unhurried(spent, DEVICES_AT_ONCE):
            loop.add_metric([device], seconds)
        yield queued
        yield exceeded
        yield loop


def _family(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"goodspeed_{name}", text, labels=["device"])


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"goodspeed_{name}", text, value=value)
