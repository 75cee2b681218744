"""How a load test is shown: a line while it runs, a table or JSON at its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from edge_agent.fleet.tally import FleetReport, FleetTally, Latency
from shared.daemon.peer_text import one_line

# Where no terminal redraws it, a line this often keeps a log readable.
PLAIN_LINE_SECONDS = 10.0


class FleetProgress(Protocol):
    """Shows where a running load test is."""

    def show(self, tally: FleetTally, now: float) -> None:
        """Show the tally; called every second."""


class ProgressLine:
    """The figures of the moment: tokens per second since the line before."""

    def __init__(self) -> None:
        self._shown_at: float | None = None
        self._shown_tokens = 0

    def render(self, tally: FleetTally, now: float) -> str:
        """The line; each call begins a new measurement of the speed."""
        begins_anew = self._shown_at is None or self._shown_at < tally.started_at
        measured_from = tally.started_at if begins_anew else self._shown_at or 0.0
        num_tokens = tally.output_tokens - (0 if begins_anew else self._shown_tokens)
        self._shown_at, self._shown_tokens = now, tally.output_tokens
        parts = [
            f"{tally.num_connected}/{tally.num_boards} boards",
            f"{num_tokens / max(now - measured_from, 1e-9):,.0f} tokens/s",
            f"{tally.num_streams_finished:,} streams finished",
            f"first token {_milliseconds(tally.first_token.quantile(0.5))}",
        ]
        if num_errors := sum(tally.errors.values()):
            parts.append(f"{num_errors:,} errors")
        return " · ".join(parts)


class PlainProgress:
    """A line every ten seconds, for logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._line = ProgressLine()
        self._next_at = 0.0

    def show(self, tally: FleetTally, now: float) -> None:
        if now < self._next_at:
            return
        self._next_at = now + PLAIN_LINE_SECONDS
        self._stream.write(self._line.render(tally, now) + "\n")
        self._stream.flush()


class SpinnerProgress:
    """One line that changes, for terminals."""

    def __init__(self, status: Status) -> None:
        self._status = status
        self._line = ProgressLine()

    def show(self, tally: FleetTally, now: float) -> None:
        self._status.update(self._line.render(tally, now))


@contextmanager
def fleet_progress_on(stream: TextIO) -> Iterator[FleetProgress]:
    """Yield the progress display that fits the stream."""
    if not stream.isatty():
        yield PlainProgress(stream)
        return
    # Four times a second: every redraw takes time from the boards.
    with Status("connecting", console=Console(file=stream), refresh_per_second=4) as status:
        yield SpinnerProgress(status)


def print_report(report: FleetReport, stream: TextIO, *, as_json: bool) -> None:
    """Write the outcome for people or, in one line, for machines."""
    if as_json:
        stream.write(msgspec.json.encode(report).decode() + "\n")
    else:
        Console(file=stream).print(fleet_table(report))


def fleet_table(report: FleetReport) -> Table:
    """The whole outcome."""
    title = f"{report.num_boards} boards, {report.seconds:.0f} s"
    table = Table(title=title, show_header=False, title_justify="left", title_style="bold")
    table.add_column("figure")
    table.add_column("value")
    for name, value in (*_speeds(report), *_latencies(report), *_errors(report)):
        table.add_row(name, value)
    return table


def _speeds(report: FleetReport) -> Iterator[tuple[str, str]]:
    yield "connected at the end", f"{report.num_connected} of {report.num_boards}"
    yield "streams finished", f"{report.num_streams_finished:,}"
    yield "tokens/s", f"{report.tokens_per_second:,.1f}"
    speeds = report.board_tokens_per_second.items()
    yield "tokens/s of a board", " · ".join(f"{name} {speed:.2f}" for name, speed in speeds)
    yield "Jain fairness of boards", f"{report.jain_fairness:.4f}"
    acceptance = "–" if report.acceptance is None else f"{report.acceptance:.3f}"
    counts = f"{report.drafted_tokens:,} tokens sent, {report.accepted_tokens:,} accepted in time"
    yield "drafts", f"acceptance {acceptance}, {counts}"


def _latencies(report: FleetReport) -> Iterator[tuple[str, str]]:
    yield "first token", _quantiles(report.first_token)
    yield "draft to its verdict", _quantiles(report.verdict)
    yield "verdict to verdict", _quantiles(report.pause)


def _errors(report: FleetReport) -> Iterator[tuple[str, str]]:
    if not report.errors:
        yield "errors", "none"
    for sentence, count in report.errors.items():
        # The sentences come from the verifier: no markup either.
        yield "errors", f"{count:,} × {escape(one_line(sentence))}"


def _quantiles(latency: Latency) -> str:
    p50, p99 = (_milliseconds(seconds) for seconds in (latency.p50, latency.p99))
    return f"p50 {p50} · p99 {p99} · {latency.num_samples:,} measured"


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    milliseconds = 1000 * seconds
    return f"{milliseconds:,.0f} ms" if milliseconds >= 100 else f"{milliseconds:.1f} ms"
