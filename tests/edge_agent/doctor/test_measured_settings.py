"""What was measured becomes settings that the agent reads."""

from __future__ import annotations

import tomllib

from edge_agent.doctor.measured_settings import Measured, difference, measured_settings

SPEEDS = {1: 60.0, 2: 118.0, 4: 121.0}


def test_the_fewest_threads_that_are_as_fast_are_set() -> None:
    text = measured_settings(Measured(SPEEDS, {"a": 60.0}, "a"))
    assert {"draft": {"threads": 2}} == tomllib.loads(text)
    assert "# tokens/s by threads: 1: 60, 2: 118, 4: 121" in text.splitlines()


def test_a_much_faster_model_is_proposed_and_not_set() -> None:
    text = measured_settings(Measured(SPEEDS, {"a": 60.0, 'b"': 90.0, "c": 70.0}, "a"))
    assert {"draft": {"threads": 2}} == tomllib.loads(text)
    proposed = text.splitlines()[-1].removeprefix("# ")
    assert {"model": 'b"'} == tomllib.loads(proposed)
    assert "1.50 times as fast as a" in text
    assert "model" not in measured_settings(Measured(SPEEDS, {"a": 60.0, "c": 70.0}, "a"))


def test_the_difference_shows_what_changes() -> None:
    lines = difference("a = 1\nb = 2\n", "a = 1\nb = 3\n", "x.toml").splitlines()
    assert ["-b = 2", "+b = 3"] == [line for line in lines if line[1:2] == "b"]
    assert "" == difference("a\n", "a\n", "x.toml")
    assert "--- nothing" == difference("", "a\n", "x.toml").splitlines()[0]
