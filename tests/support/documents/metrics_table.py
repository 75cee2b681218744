"""The tables of docs/metrics.md, as the registry of a verifier has its metrics.

python -m tests.support.documents.metrics_table    # prints them
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterable
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from shared.daemon.connection_gate import ConnectionGate, GateLimits
from shared.protocol.board_health import BoardHealth
from tests.support.ends.limits import make_device_limits
from tests.support.ends.planning import add, draft, finish, make_stream, play, start
from tests.support.ends.scripted import scripted_service
from verifier.doors.doors import Doors
from verifier.engine.engine import RoundReport
from verifier.engine.many_workers import ManyWorkers
from verifier.engine.worker import Worker
from verifier.promises.slo_settings import SloSettings
from verifier.scheduling.draft_trial import Arm
from verifier.scheduling.measured_payoff import MeasuredPayoff
from verifier.scheduling.round_facts import RoundFacts
from verifier.server.device_limits import DeviceUsage
from verifier.server.gauges.door_gauges import DoorGauges
from verifier.server.gauges.planner_gauges import PortGauges
from verifier.server.gauges.worker_gauges import WorkerGauges
from verifier.server.loop_shares import LoopShares
from verifier.workers.distant_worker import DistantWorker
from verifier.workers.remote_target import WorkerAddress
from verifier.workers.round_deadline import RoundDeadline

# A row of a table: name, kind, labels, meaning.
_ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.+?) \|$", re.MULTILINE)
_OF_HISTOGRAMS = ("_bucket", "_sum", "_count")


class MetricRow(NamedTuple):
    """One metric as a page tells of it; the names are those that a query uses."""

    name: str
    kind: str
    labels: frozenset[str]
    meaning: str


def served_metrics() -> list[MetricRow]:
    """Those of a verifier that has something of everything to say; sorted by name."""
    rows: dict[str, MetricRow] = {}
    for family in text_string_to_metric_families(_page()):
        if family.name.endswith("_created"):
            continue
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        name = f"{family.name}_total" if family.type == "counter" else family.name
        rows[name] = MetricRow(name, family.type, frozenset(labels), family.documentation)
    return sorted(rows.values())


def told_metrics(page: str) -> list[MetricRow]:
    """Those in the tables of a page of Markdown, in their order."""
    return [
        MetricRow(name, kind, frozenset(re.findall(r"`(\w+)`", labels)), meaning)
        for name, kind, labels, meaning in _ROW.findall(page)
    ]


def series_of(rows: Iterable[MetricRow]) -> dict[str, frozenset[str]]:
    """The names that a query may use, with their labels."""
    series: dict[str, frozenset[str]] = {}
    for row in rows:
        if row.kind == "histogram":
            for ending in _OF_HISTOGRAMS:
                series[row.name + ending] = row.labels | ({"le"} if ending == "_bucket" else set())
        else:
            series[row.name] = row.labels
    return series


def table_of(rows: Iterable[MetricRow]) -> str:
    """The lines of a table."""
    lines = ["| name | kind | labels | meaning |", "| --- | --- | --- | --- |"]
    for name, kind, labels, meaning in rows:
        shown = ", ".join(f"`{label}`" for label in sorted(labels)) or "–"
        lines.append(f"| `{name}` | {kind} | {shown} | {meaning} |")
    return "\n".join(lines)


def _page() -> str:
    """What /metrics says when there is something of everything to say."""
    service = scripted_service(num_blocks=2)
    metrics, planner = service.metrics, service.planner
    planner.promises.settings = SloSettings(token_seconds=1.0)
    device = service.device("kitchen")
    device.estimates.speed.observe_drafting(4, 0.05)
    device.estimates.speed.observe_round_trip(0.01)
    device.health = BoardHealth(50, 512, is_undervolted=False, is_slowed=False)
    streams = [
        make_stream(number, device=device.name, device_estimates=device.estimates)
        for number in (1, 2)  # the second waits for room
    ]
    add(planner, *streams)
    streams[0].board_is_ready = True
    round_ = start(planner, 1.0)
    results = finish(planner, round_, now=1.1)
    draft(streams[0], 30, now=1.2)
    play(planner, 1.3)
    _measure(planner.payoff, frozenset({device.name}))
    metrics.observe_round(RoundReport(round_, *[0.01] * 7))
    streams[0].end("stop")
    metrics.observe_result(results[0])
    metrics.received(device.name, 100)
    metrics.rejected("limit")
    shares = LoopShares()
    shares.spend(device.name, 1e-3, 1.0)
    usages = {device.name: DeviceUsage(make_device_limits(), 1.0)}
    limits = GateLimits(max_idle=4, idle_seconds=1.0, stall_seconds=1.0)
    never = threading.Timer(1.0, print)
    gate = ConnectionGate(object, lambda *_: never, lambda: 0.0, limits)
    metrics.watch(PortGauges(gate, usages, shares, lambda: 0.0))
    source = DistantWorker(WorkerAddress("127.0.0.1", 1), "", RoundDeadline(1.0))
    worker = Worker(0, source, planner, service.target)  # type: ignore[arg-type]
    metrics.watch(WorkerGauges(ManyWorkers([worker])))
    metrics.watch(DoorGauges(Doors(1, lambda call: False)))
    return metrics.page().decode()


def _measure(payoff: MeasuredPayoff, devices: frozenset[str]) -> None:
    """Let it find out that drafts bring twice as much."""
    while payoff.drafts_over_none is None:
        drafting = devices if payoff.arm is Arm.DRAFTS else frozenset[str]()
        num_tokens = 1 + len(drafting)
        payoff.observe(RoundFacts(0.05, num_tokens, 1, devices, drafting, False, True, True))


if __name__ == "__main__":
    sys.stdout.write(table_of(served_metrics()) + "\n")
