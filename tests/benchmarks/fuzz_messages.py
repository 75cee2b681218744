"""Says a million fuzzed messages to each end: `python -m tests.benchmarks.fuzz_messages`.

Legal messages, some of them changed in one place or several (other types, huge numbers, NaN, deep
nesting, cut or scrambled bytes), go into a real DeviceConnection with a scripted target behind it,
and into the agent's streams.  Each must be answered by an error or taken or ignored as designed;
the first that is not ends the run with a traceback, which the same seed brings again.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import time
from collections.abc import Callable

import uvloop
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.support.messages.fuzzing import Outcomes, fuzz_agent, fuzz_verifier


def report(end: str, outcomes: Outcomes, seconds: float) -> None:
    total = outcomes.total()
    print(f"{total:,} messages to the {end} in {seconds:.0f} s, no unhandled exception")
    for outcome, count in outcomes.most_common():
        print(f"  {count:>9,}  {count / total:>6.1%}  {outcome}")


def run(num_messages: int, seed: int, end: str, told: Callable[[], object]) -> Outcomes:
    if end == "agent":
        return fuzz_agent(num_messages, seed, told=told)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(fuzz_verifier(num_messages, seed, told=told))


def main() -> None:
    """Print what became of the messages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=1_000_000, help="to each end")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    for end in ("verifier", "agent"):
        started_at = time.monotonic()
        columns = (TextColumn(end), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, transient=True) as progress:
            task = progress.add_task(end, total=options.messages)

            def advance(progress: Progress = progress, task: int = task) -> None:
                progress.advance(task)  # type: ignore[arg-type]

            outcomes = run(options.messages, options.seed, end, advance)
        report(end, outcomes, time.monotonic() - started_at)


if __name__ == "__main__":
    main()
