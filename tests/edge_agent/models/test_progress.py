"""A bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io

from edge_agent.models.progress import progress_on


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_one_line_for_a_stage_and_one_for_every_quarter() -> None:
    stream = io.StringIO()
    with progress_on(stream) as progress:
        progress.begin_stage("downloading wren", 1000)
        for done in (0, 10, 249, 250, 260, 600, 999, 1000, 1001):
            progress.update(done)
        progress.begin_stage("waiting")
        progress.update(5)
    assert [
        "downloading wren",
        "downloading wren: 25 %",
        "downloading wren: 50 %",
        "downloading wren: 75 %",
        "downloading wren: 100 %",
        "waiting",
    ] == stream.getvalue().splitlines()


def test_a_terminal_gets_a_bar_that_ends_full() -> None:
    stream = Terminal()
    with progress_on(stream) as progress:
        progress.begin_stage("downloading wren", 1000)
        progress.update(2000)
        progress.begin_stage("waiting")
        progress.update(1)
        progress.begin_stage("verifying sha256", 10)
        progress.update(3)
    last_bars = stream.getvalue().split("downloading wren")[-1]
    assert 3 == last_bars.count("100%")
    assert "verifying sha256" in last_bars


def test_a_terminal_with_no_stage_stays_empty() -> None:
    stream = Terminal()
    with progress_on(stream):
        pass
    assert "%" not in stream.getvalue()
