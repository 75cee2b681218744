"""What rounds teach of how fast they follow each other."""

from __future__ import annotations

import pytest

from tests.support.ends.planning import add, make_planner, make_stream, play
from verifier.rounds.planner import RoundPlanner


def paced(*now: float) -> RoundPlanner:
    """A planner of one stream whose rounds ended at these moments."""
    planner = make_planner()
    add(planner, make_stream(1, prompt_ids=(20,) * 40, max_output_tokens=100))
    for moment in now:
        play(planner, moment)
    planner.follow_up(now[-1])
    return planner


def pace_of(planner: RoundPlanner) -> float | None:
    return planner._lessons.pace.mean_seconds


def test_the_round_that_reads_the_first_prompt_says_nothing_of_the_next_ones() -> None:
    assert None is pace_of(paced(5.0))
    assert pytest.approx(0.1) == pace_of(paced(5.0, 5.1))


def test_a_stall_counts_for_two_rounds_and_not_for_a_hundred() -> None:
    moments = [5.0 + 0.1 * i for i in range(60)]
    calm = pace_of(paced(*moments))
    assert pytest.approx(0.1) == calm
    stalled = pace_of(paced(*moments, moments[-1] + 10.0))
    assert stalled is not None
    assert 0.1 < stalled < 0.11
