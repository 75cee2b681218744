"""What /metrics tells of workers: who serves, how fast, and what was moved or lost.

Pure reading. This module must never change what it reads.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from verifier.engine.many_workers import ManyWorkers
from verifier.server.gauges.numbered import counters, gauges


class WorkerGauges(Collector):
    """Of each worker, by its number."""

    def __init__(self, workers: ManyWorkers) -> None:
        self._workers = workers

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        up = gauges("worker", "up", "Whether the worker serves")
        streams = gauges(
            "worker", "streams", "Open streams at the worker, those that wait included"
        )
        budget = gauges("worker", "budget_tokens", "Draft tokens that its next round may hold")
        rounds = counters("worker", "rounds", "Rounds of the worker")
        seconds = counters("worker", "round_seconds", "Seconds that they took, sampling included")
        lost = counters(
            "worker", "lost", "How often the worker was lost without being asked to end"
        )
        moved = counters(
            "worker",
            "moved_streams",
            "Streams that went on elsewhere (out) or here (in)",
            "direction",
        )
        for worker in self._workers.workers:
            number = str(worker.number)
            up.add_metric([number], float(worker.is_serving))
            streams.add_metric([number], worker.num_streams)
            budget.add_metric([number], worker.planner.draft_plan.budget_tokens)
            rounds.add_metric([number], worker.num_rounds)
            seconds.add_metric([number], worker.round_seconds)
            lost.add_metric([number], worker.num_lost)
            moved.add_metric([number, "in"], worker.num_moved_in)
            moved.add_metric([number, "out"], worker.num_moved_out)
        yield from (up, streams, budget, rounds, seconds, lost, moved)
