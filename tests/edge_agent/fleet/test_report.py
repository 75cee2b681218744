"""How a load test looks while it runs and at its end."""

from __future__ import annotations

import io
import json

from rich.console import Console

from edge_agent.fleet.report import (
    PLAIN_LINE_SECONDS,
    ProgressLine,
    fleet_progress_on,
    fleet_table,
    print_report,
)
from edge_agent.fleet.tally import FleetTally


def tally() -> FleetTally:
    """Two boards, one connected, with 30 tokens after 10 s."""
    counted = FleetTally(num_boards=2, now=0.0)
    counted.num_connected = 1
    counted.record_tokens(0, 10)
    counted.record_tokens(1, 20)
    counted.first_token.observe(0.05)
    return counted


def shown(counted: FleetTally, width: int = 200) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(fleet_table(counted.report(now=10.0)))
    return out.getvalue()


def test_the_table_has_every_figure() -> None:
    text = shown(tally())
    for words in (
        "2 boards, 10 s",
        "1 of 2",
        "p1 1.00 · p10 1.00 · p50 1.00 · p90 2.00 · p99 2.00",
        "0.9000",  # (10 + 20)² / (2 · (10² + 20²))
        "p50 50.4 ms · p99 50.4 ms · 1 measured",
        "p50 – · p99 – · 0 measured",
    ):
        assert words in text, text
    assert any("errors" in line and "none" in line for line in text.splitlines())


def test_errors_are_shown_as_they_are_whatever_is_in_them() -> None:
    counted = tally()
    counted.record_failure("[bold]busy[/bold] \x1b[2J")
    assert r"1 × [bold]busy[/bold] \x1b[2J" in shown(counted)


def test_json_has_every_figure_on_one_line() -> None:
    out = io.StringIO()
    print_report(tally().report(now=10.0), out, as_json=True)
    (line,) = out.getvalue().splitlines()
    figures = json.loads(line)
    assert (3.0, 30, {}) == (
        figures["tokens_per_second"],
        figures["output_tokens"],
        figures["errors"],
    )
    assert {"num_samples", "p50", "p99"} == set(figures["first_token"])


def test_a_progress_line_says_how_fast_it_is_now() -> None:
    counted, line = tally(), ProgressLine()
    expected = "1/2 boards · 3 tokens/s · 0 streams finished · first token 50.4 ms"
    assert expected == line.render(counted, now=10.0)
    counted.record_tokens(0, 100)
    assert "· 50 tokens/s ·" in line.render(counted, now=12.0)


def test_after_the_ramp_up_the_progress_line_starts_over() -> None:
    counted, line = tally(), ProgressLine()
    line.render(counted, now=10.0)
    counted.restart(now=11.0)
    counted.record_tokens(0, 7)
    assert "· 7 tokens/s ·" in line.render(counted, now=12.0)


def test_the_progress_line_counts_errors_when_there_are_any() -> None:
    counted = tally()
    assert "error" not in ProgressLine().render(counted, now=1.0)
    counted.record_failure("busy")
    assert ProgressLine().render(counted, now=1.0).endswith("· 1 errors")


def test_in_a_pipe_there_is_a_plain_line_now_and_then() -> None:
    out = io.StringIO()
    with fleet_progress_on(out) as progress:
        for second in range(int(PLAIN_LINE_SECONDS) + 1):
            progress.show(tally(), now=100.0 + second)
    assert 2 == len(out.getvalue().splitlines())
    assert "\x1b" not in out.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_the_line_is_drawn_in_place() -> None:
    out = Terminal()
    with fleet_progress_on(out) as progress:
        progress.show(tally(), now=10.0)
    assert "1/2 boards" in out.getvalue()
