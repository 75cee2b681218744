"""Many cuts of many kinds over one set of chats: is a token lost, and how long until the next one.

Everything is in one process: a verifier, two agents behind a chaos proxy each, clients that stay
connected to their agent's API. Pauses and heartbeats are shortened (tests.support.chats.cut_chats),
so the seconds say what the kinds differ by; `bench_recovery` measures those of the product.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.support.chats.cut_chats import Report, Setting, disturbed_chats
from tests.support.chats.cut_settings import real_setting, scripted_setting

PERCENTILES = (50, 90, 99)


@click.command()
@click.option("--cuts", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--model", type=click.Choice(["scripted", "real"]), default="scripted")
def main(cuts: int, seed: int, model: str) -> None:
    """Print the seconds to the next token by kind, then what was lost; exit code 1 if anything."""
    logging.disable(logging.WARNING)  # a cut is no news here
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )
    with _setting(model) as setting, bar:
        task = bar.add_task("cuts", total=cuts)

        def tell(report: Report) -> None:
            wrong = len(report.violations) + len(report.errors)
            bar.update(
                task,
                completed=report.num_cuts,
                description=f"{report.num_chats} chats, {report.num_tokens} tokens, {wrong} wrong",
            )

        report = asyncio.run(disturbed_chats(setting, cuts, seed, tell))
    _print(report)
    sys.exit(1 if report.violations or report.errors else 0)


@contextmanager
def _setting(model: str) -> Iterator[Setting]:
    if model == "scripted":
        yield scripted_setting()
    else:
        with real_setting() as setting:
            yield setting


def _print(report: Report) -> None:
    print("| disturbance | times | median s | p90 s | p99 s | longest s |")
    print("|---|---|---|---|---|---|")
    for kind, seconds in sorted(report.recoveries.items()):
        cells = (f"{_percentile(seconds, percent):.3f}" for percent in PERCENTILES)
        print(f"| {kind} | {len(seconds)} | {' | '.join(cells)} | {max(seconds):.3f} |")
    print(
        f"\n{report.num_disturbances} disturbances, {report.num_cuts} of them cut the link, over "
        f"{report.num_chats} chats with {report.num_tokens} tokens\n"
        f"{report.num_repeated} messages came twice\n"
        f"{report.num_turned_away} chats asked while there was no link and had to ask again\n"
        f"{len(report.violations)} violations, {len(report.errors)} errors at clients"
    )
    for sentence in (*report.violations, *report.errors):
        print(sentence)


def _percentile(values: list[float], percent: int) -> float:
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


if __name__ == "__main__":
    main()
