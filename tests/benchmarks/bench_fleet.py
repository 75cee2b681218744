"""Many scripted boards against one verifier: round overhead, memory, drain.

A real verifier process over a scripted target with rounds of a fixed time, `goodspeed-agent fleet`
as another process, each on a core of its own. Overhead is the time of a round beyond that of the
target's forward: planning, settling, and waiting for the event loop and for Python's lock.

    python -m tests.benchmarks.bench_fleet --boards 1000 --minutes 10

With `--doors 0 1 2` one run after the other, each with so many processes for websockets, and no
process has a core of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client.parser import text_string_to_metric_families

from tests.support.programs.ports import free_port
from tests.support.programs.program import Program
from tests.support.programs.serving_program import ServingProgram
from verifier.server.device_tokens import new_token

BOARDS = "import sys; from edge_agent.cli import main; main(sys.argv[1:], standalone_mode=False)"
AIM_SECONDS = 0.020
# As often as a Prometheus would ask: with 1,000 devices a page takes the event loop 50 ms and more.
SCRAPE_SECONDS = 15.0
# Caches, counters and estimates fill up first, and ended streams are kept for a while; what grows
# after that is a leak.
WARM_UP_PART = 0.3
PHASES = ("plan", "forward", "sample", "settle", "deliver", "follow_up", "overhead", "total")
MEGABYTE = 1e6
# What boards see of a verifier that was told to stop.
EXPECTED_AT_DRAIN = ("the verifier closed the connection", "nothing listens there", "shutting down")

Key = TypeVar("Key")
Settings = argparse.Namespace
Sample = tuple[float, float]  # seconds, MB


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one load test and print what the verifier and the fleet say of it."""
    settings = _settings(arguments)
    for num_doors in settings.doors:
        print(f"--- {num_doors} doors")
        _run(settings, num_doors)


def _run(settings: Settings, num_doors: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        _write_tokens(directory, settings.boards)
        with _verifier(directory, settings, num_doors) as verifier:
            verifier.wait_until_ready()
            doors = _doors_of(verifier.process_id)
            with _fleet(directory, settings, verifier.port) as fleet:
                time.sleep(settings.ramp_up)
                ids = (verifier.process_id, fleet.process_id, *doors)
                before, cpu_before = _rounds(verifier), [_cpu_seconds(id_) for id_ in ids]
                samples = _watch(verifier, settings.minutes)
                rounds = _rounds(verifier).since(before)
                cpu_after = [_cpu_seconds(id_) for id_ in ids]
                door_memory = [_memory(id_) for id_ in doors]
                drain = verifier.end(signal.SIGTERM)  # in the middle of everything
                fleet.check_running()
                fleet.end(signal.SIGTERM)
        report = json.loads((directory / "report.json").read_text())
        log = verifier.lines
    _print_rounds(rounds, settings)
    _print_processors(
        [after.since(before) for after, before in zip(cpu_after, cpu_before, strict=True)],
        rounds,
        60 * settings.minutes,
    )
    _print_memory(samples)
    print("".join(f"memory of a door {megabytes:.0f} MB\n" for megabytes in door_memory), end="")
    _print_drain(*drain, log)
    _print_fleet(report)


def _settings(arguments: Sequence[str] | None) -> Settings:
    parser = argparse.ArgumentParser()
    parser.add_argument("--boards", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--ramp-up", type=float, default=30.0, help="seconds")
    parser.add_argument("--round-ms", type=float, default=20.0, help="time of a forward")
    parser.add_argument("--think", type=float, default=1.0, help="seconds between streams")
    parser.add_argument("--output-tokens", type=int, default=64)
    parser.add_argument("--draft-speed", type=float, default=200.0, help="tokens/s of a board")
    parser.add_argument("--max-round-tokens", type=int, default=4096)
    parser.add_argument("--doors", type=int, nargs="+", default=[0])
    parser.add_argument("--profile", default="", help="cProfile of the verifier goes there")
    parser.add_argument("--fleet-profile", default="", help="that of the fleet")
    return parser.parse_args(arguments)


# --- processes ------------------------------------------------------------------------------------


def _write_tokens(directory: Path, num_boards: int) -> None:
    made = [new_token(f"load-{i}", secrets.token_bytes(32)) for i in range(num_boards)]
    for name, lines in (
        ("tokens", [line for _, line in made]),
        ("fleet-tokens", [token for token, _ in made]),
    ):
        (directory / name).touch(0o600)
        (directory / name).write_text("\n".join(lines) + "\n")


def _verifier(directory: Path, settings: Settings, num_doors: int) -> ServingProgram:
    port = free_port()
    keys = {
        "server.port": port,
        "server.tokens_file": directory / "tokens",
        "server.max_connections": 2 * settings.boards + 50,
        "rounds.max_round_tokens": settings.max_round_tokens,
        "server.doors": num_doors,
    }
    command = [
        *(sys.executable, "-m", "tests.benchmarks.fleet_verifier"),
        *(str(settings.round_ms / 1000), settings.profile, "run"),
        *(word for key, value in keys.items() for word in ("--set", f"{key}={value}")),
    ]
    log = directory / "verifier.log"
    ready = {"status": "ok"}
    cores = _core(0, settings)
    return ServingProgram("verifier", command, log, port=port, ready=ready, cores=cores)


def _fleet(directory: Path, settings: Settings, port: int) -> Program:
    program = BOARDS
    if settings.fleet_profile:
        program = f"import cProfile; cProfile.run({BOARDS!r}, {settings.fleet_profile!r})"
    command = [
        *(sys.executable, "-c", program),
        *("fleet", "--json", "--verifier", f"ws://127.0.0.1:{port}"),
        *("--tokens", str(directory / "fleet-tokens"), "--ramp-up", str(settings.ramp_up)),
        *("--minutes", str(settings.minutes + 10), "--think", str(settings.think)),
        *("--output-tokens", str(settings.output_tokens)),
        *("--draft-speed", str(settings.draft_speed)),
    ]
    report = directory / "report.json"
    cores = _core(1, settings)
    return Program("fleet", command, directory / "fleet.log", output=report, cores=cores)


def _core(number: int, settings: Settings) -> set[int]:
    """A core for one process alone, as far as there are enough; with doors all are for all."""
    cores = sorted(os.sched_getaffinity(0))
    return set(cores) if any(settings.doors) else {cores[number % len(cores)]}


def _doors_of(process_id: int) -> list[int]:
    """The processes in which a verifier keeps its websockets."""
    found: set[int] = set()
    for children in Path(f"/proc/{process_id}/task").glob("*/children"):
        found.update(map(int, children.read_text().split()))
    lines = {child: Path(f"/proc/{child}/cmdline").read_bytes() for child in found}
    return sorted(child for child, line in lines.items() if b"door_program" in line)


# --- measuring ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rounds:
    """What /metrics says of rounds; all of it counts up."""

    count: float
    tokens: float
    streams: float  # parts of all streams in all rounds
    seconds: Mapping[str, float]  # by phase
    at_most: Mapping[
        str, Mapping[float, float]
    ]  # by phase: rounds that took it up to so many seconds

    def since(self, before: Rounds) -> Rounds:
        """The rounds after `before`."""
        return Rounds(
            self.count - before.count,
            self.tokens - before.tokens,
            self.streams - before.streams,
            _less(self.seconds, before.seconds),
            {
                phase: _less(now, before.at_most.get(phase, {}))
                for phase, now in self.at_most.items()
            },
        )

    def quantile(self, phase: str, part: float) -> float:
        """Seconds of a phase that this part of the rounds does not exceed, between buckets."""
        wanted = part * self.count
        at_most = self.at_most[phase]
        for lower, upper in pairwise([0.0, *sorted(at_most)]):
            below, inside = at_most.get(lower, 0.0), at_most[upper] - at_most.get(lower, 0.0)
            if below + inside >= wanted and inside:
                return lower + (upper - lower) * (wanted - below) / inside
        return float("nan")


def _less(after: Mapping[Key, float], before: Mapping[Key, float]) -> dict[Key, float]:
    """How much was added; before the first round nothing was counted."""
    return {key: value - before.get(key, 0.0) for key, value in after.items()}


def rounds_of(page: str) -> Rounds:
    """The rounds on a page of metrics."""
    seconds: dict[str, float] = {}
    at_most: defaultdict[str, dict[float, float]] = defaultdict(dict)
    count = tokens = streams = 0.0
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            phase = sample.labels.get("phase", "")
            if sample.name == "goodspeed_round_seconds_sum":
                seconds[phase] = sample.value
            elif sample.name == "goodspeed_round_seconds_bucket":
                at_most[phase][float(sample.labels["le"])] = sample.value
            elif sample.name == "goodspeed_batch_tokens_sum":
                tokens = sample.value
            elif sample.name == "goodspeed_batch_tokens_count":
                count = sample.value
            elif sample.name == "goodspeed_batch_streams_sum":
                streams = sample.value
    return Rounds(count, tokens, streams, seconds, at_most)


def _rounds(verifier: ServingProgram) -> Rounds:
    return rounds_of(verifier.metrics_page())


def _watch(verifier: ServingProgram, minutes: float) -> list[Sample]:
    """Memory of the verifier each second, as long as the test takes."""
    started_at = time.monotonic()
    samples: list[Sample] = []
    next_scrape = SCRAPE_SECONDS
    while (elapsed := time.monotonic() - started_at) < 60 * minutes:
        samples.append((elapsed, _memory(verifier.process_id)))
        if elapsed >= next_scrape:
            verifier.metrics_page()
            next_scrape += SCRAPE_SECONDS
        time.sleep(1.0)
    return samples


def _memory(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / MEGABYTE


@dataclass(frozen=True)
class ProcessorSeconds:
    """What a process took of the processor, and what of that in the kernel."""

    whole: float
    kernel: float

    def since(self, before: ProcessorSeconds) -> ProcessorSeconds:
        return ProcessorSeconds(self.whole - before.whole, self.kernel - before.kernel)


def _cpu_seconds(pid: int) -> ProcessorSeconds:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, kernel = (int(field) / os.sysconf("SC_CLK_TCK") for field in fields[11:13])
    return ProcessorSeconds(user + kernel, kernel)


def slope(samples: Sequence[Sample]) -> tuple[float, float]:
    """MB per minute by least squares, and its standard error."""
    times = [seconds / 60 for seconds, _ in samples]
    megabytes = [value for _, value in samples]
    fit = statistics.linear_regression(times, megabytes)
    rest = [m - fit.intercept - fit.slope * t for t, m in zip(times, megabytes, strict=True)]
    spread = statistics.pvariance(times) * len(times)
    variance = sum(r * r for r in rest) / (len(times) - 2)
    return fit.slope, (variance / spread) ** 0.5


# --- printing -------------------------------------------------------------------------------------


def _print_rounds(rounds: Rounds, settings: Settings) -> None:
    p50, p90, p99 = (1000 * rounds.quantile("overhead", part) for part in (0.5, 0.9, 0.99))
    verdict = "reached" if p99 <= 1000 * AIM_SECONDS else "missed"
    print(f"{settings.boards} boards, {settings.minutes:g} minutes, {rounds.count:.0f} rounds")
    print(f"round overhead p50 {p50:.1f} · p90 {p90:.1f} · p99 {p99:.1f} ms")
    print(f"aim p99 ≤ {1000 * AIM_SECONDS:.0f} ms: {verdict}")
    streams = rounds.streams / rounds.count
    print(f"tokens/round {rounds.tokens / rounds.count:.1f}, streams/round {streams:.1f}")
    phases = [f"{phase} {1000 * rounds.seconds[phase] / rounds.count:.2f}" for phase in PHASES]
    print(f"mean ms/round: {' · '.join(phases)}")
    slowest = [f"{phase} {1000 * rounds.quantile(phase, 0.99):.1f}" for phase in PHASES]
    print(f"p99 ms/round: {' · '.join(slowest)}")


def _print_processors(
    cpu_seconds: Sequence[ProcessorSeconds], rounds: Rounds, seconds: float
) -> None:
    """What all processes took; a fleet that takes a whole core measures itself."""
    doors = [f"door {number}" for number in range(len(cpu_seconds) - 2)]
    for name, used in zip(("verifier", "fleet", *doors), cpu_seconds, strict=True):
        per_round = 1000 * used.whole / rounds.count
        of_core = used.whole / seconds
        per_stream, in_kernel = (1e6 * s / rounds.streams for s in (used.whole, used.kernel))
        print(
            f"processor of the {name}: {per_round:.1f} ms/round, {of_core:.0%} of a core, "
            f"{per_stream:.1f} µs for each stream and round, {in_kernel:.1f} of them in the kernel"
        )


def _print_memory(samples: Sequence[Sample]) -> None:
    warm = samples[int(WARM_UP_PART * len(samples)) :]
    per_minute, error = slope(warm)
    print(
        f"memory {warm[0][1]:.1f} MB after warm-up, {warm[-1][1]:.1f} at the end; "
        f"slope {per_minute:+.3f} ± {error:.3f} MB/minute over {len(warm)} s"
    )


def _print_drain(code: int, seconds: float, log: Sequence[str]) -> None:
    complaints = [line for line in log if "WARNING" in line or "ERROR" in line]
    tracebacks = sum("Traceback" in line for line in log)
    ended = "stopped" in log[-1]
    print(f"drain {seconds:.2f} s, exit code {code}, {'clean' if ended else 'NOT CLEAN'}")
    print(f"log: {len(complaints)} warnings and errors, {tracebacks} tracebacks")
    print("".join(f"  {line}\n" for line in complaints[:5]), end="")


def _print_fleet(report: dict[str, Any]) -> None:
    print(
        f"fleet: {report['tokens_per_second']:.0f} tokens/s, "
        f"{report['num_streams_finished']} streams, Jain {report['jain_fairness']:.4f}, "
        f"acceptance {report['acceptance'] or 0:.3f}"
    )
    for name in ("first_token", "verdict", "pause"):
        latency = report[name]
        p50, p99 = (1000 * (latency[key] or 0.0) for key in ("p50", "p99"))
        print(f"  {name} p50 {p50:.0f} · p99 {p99:.0f} ms")
    for sentence, count in report["errors"].items():
        if not any(words in sentence for words in EXPECTED_AT_DRAIN):
            print(f"  {count} x {sentence}")


if __name__ == "__main__":
    main()
