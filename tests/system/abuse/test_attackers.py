"""Attackers at a verifier process, alone and two at once: an honest board's streams stay whole.

How much slower they get is a benchmark's business (`tests.benchmarks.bench_attackers`).
"""

from __future__ import annotations

import asyncio

import pytest

from tests.system.attackers.honest_board import beside

SECONDS = 8.0  # a text takes 4 to 6


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [
        ("extreme numbers",),
        ("cache hoarder", "long prompts"),
        ("flat drafts", "dead rows"),
        ("dear opens", "guesses"),
        ("two with one token", "reads nothing"),
        ("broken http", "slow heads"),
    ],
    ids=" and ".join,
)
def test_beside_attackers_no_stream_of_an_honest_board_ends_and_no_text_changes(
    names: tuple[str, ...],
) -> None:
    noticed = asyncio.run(beside(names, SECONDS))
    assert (0, 0) == (noticed.num_ended, noticed.num_wrong)
    assert len(noticed.seconds) > 50
