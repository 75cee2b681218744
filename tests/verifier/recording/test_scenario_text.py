"""What is written down is what `simulate` reads, and it plays."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.support.ends.recordings import BEGIN, known_lines
from verifier.recording.calibration import calibrate
from verifier.recording.recording_file import read_recording
from verifier.recording.scenario_text import scenario_files
from verifier.sim.many_verifiers.scenario_file import read_arrivals
from verifier.sim.scenario import Scenario
from verifier.sim.scenario_file import read_scenario
from verifier.sim.world import play


@pytest.fixture
def scenario(tmp_path: Path) -> Scenario:
    path = tmp_path / "r.jsonl"
    path.write_bytes(msgspec.json.Encoder().encode_lines(known_lines()))
    calibration = calibrate(read_recording(path))
    files = scenario_files(calibration, BEGIN.rounds, "w", 'What "r.jsonl" recorded.')
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return read_scenario(tmp_path / "w.toml")


def test_all_that_was_fitted_is_in_the_scenario(scenario: Scenario) -> None:
    assert ('What "r.jsonl" recorded.', "fixed") == (scenario.run.shows, scenario.rounds.policy)
    assert 50 == pytest.approx(scenario.target.fixed_milliseconds, rel=0.05)
    near, idle = scenario.boards["near"], scenario.boards["idle"]
    assert (Path("w.trace1.json"), None) == (near.trace, idle.trace)
    assert (100.0, 20.0, "coupled") == (
        *(near.draft_tokens_per_second, near.round_trip_milliseconds, near.mode),
    )
    assert (50, "rejection") == (idle.output_tokens, idle.mode)
    assert idle.leaves_at_seconds is not None


def test_the_scenario_plays(scenario: Scenario) -> None:
    world = play(scenario)
    assert world.record.rounds.sum() > 100


def test_the_requests_that_were_answered_are_arrivals_of_a_world_of_many_verifiers(
    scenario: Scenario, tmp_path: Path
) -> None:
    arrivals = read_arrivals(tmp_path / "w.requests.json")
    recording = read_recording(tmp_path / "r.jsonl")
    answered = [begin for number, begin in recording.streams.items() if number in recording.ends]
    assert len(answered) == len(arrivals.asked_at) > 0
    assert [begin.prompt_tokens for begin in answered] == arrivals.prompt_tokens.tolist()
    assert (arrivals.output_tokens > 0).all()
