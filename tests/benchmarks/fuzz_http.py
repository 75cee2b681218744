"""Sends a million broken HTTP requests to each port: `python -m tests.benchmarks.fuzz_http`.

Legal requests, most of them changed in one place or several (methods, targets, versions, headers,
encodings, chunks, scrambled bytes), go through a real gate and the real HTTP server into real
handlers, without sockets. Each must be answered below 500, or by the end of the connection, and
none may bring about a traceback, or more than one line a minute of its kind in the log; the first
that does ends the run, and the same seed brings it again.
"""

from __future__ import annotations

import argparse
import asyncio
import time

import uvloop
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.support.network.http_fuzzing import (
    Outcomes,
    fuzz_agent_port,
    fuzz_loading_port,
    fuzz_verifier_port,
)

PORTS = {
    "verifier": fuzz_verifier_port,
    "verifier that loads": fuzz_loading_port,
    "agent": fuzz_agent_port,
}


def report(end: str, outcomes: Outcomes, seconds: float) -> None:
    total = outcomes.total()
    print(f"{total:,} requests to the {end} in {seconds:.0f} s, no 500 and no traceback")
    for outcome, count in outcomes.most_common():
        print(f"  {count:>9,}  {count / total:>6.1%}  {outcome}")


def main() -> None:
    """Print what became of the requests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=1_000_000, help="to each port")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for end, fuzz in PORTS.items():
        started_at = time.monotonic()
        columns = (TextColumn(end), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, transient=True) as progress:
            task = progress.add_task(end, total=options.requests)

            def advance(count: int, progress: Progress = progress, task: int = task) -> None:
                progress.advance(task, count)  # type: ignore[arg-type]

            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                outcomes = runner.run(fuzz(options.requests, options.seed, advance))
        report(end, outcomes, time.monotonic() - started_at)


if __name__ == "__main__":
    main()
