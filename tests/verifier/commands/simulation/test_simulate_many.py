"""`goodspeed-verifier simulate many-verifiers`: tables, whole files, all problems at once."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result

from verifier.cli import main
from verifier.commands.simulation import part_processes
from verifier.sim.many_verifiers.scenario_file import read_many_scenario

SCENARIOS = Path(__file__).parents[4] / "devices" / "scenarios" / "many"
SMALL = """[scenario]
seconds = 3.0
warm_up_seconds = 1.0
[verifiers]
count = 3
slowness = [1.0, 1.5]
policy = "POLICY"
[devices]
count = 20
[requests]
output_tokens = [5, 20]
think_seconds = [0.1, 0.2]
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    file = tmp_path / "small.toml"
    file.write_text(SMALL.replace("POLICY", "rate"))
    return file


def many(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["simulate", "many-verifiers", *map(str, arguments)])


def test_the_same_scenario_writes_the_same_bytes(scenario: Path, tmp_path: Path) -> None:
    files = [tmp_path / "first.json", tmp_path / "again.json"]
    for file in files:
        result = many(scenario, "--json", file)
        assert 0 == result.exit_code, result.output
        assert "tokens/s in all" in result.output
    assert files[0].read_bytes() == files[1].read_bytes()
    outcome = msgspec.json.decode(files[0].read_bytes())["outcome"]
    assert outcome["first_token_p50_seconds"] <= outcome["first_token_p99_seconds"]
    assert outcome["requests_per_second"] > 1.0


@pytest.mark.parametrize("policy", ["goodspeed", "awc", "greedy", "fixed", "threshold", "none"])
def test_policies_of_the_verifier_are_played(scenario: Path, policy: str, tmp_path: Path) -> None:
    scenario.write_text(SMALL.replace("POLICY", policy))
    file = tmp_path / "out.json"
    assert 0 == many(scenario, "--json", file).exit_code
    outcome = msgspec.json.decode(file.read_bytes())["outcome"]
    assert (policy == "none") == (outcome["acceptance"] is None)


def test_devices_replay_what_was_recorded(scenario: Path, tmp_path: Path) -> None:
    (tmp_path / "bits.json").write_text("[1, [1, 200], 1, [0, 3]]")
    text = SMALL.replace("POLICY", "rate").replace("[devices]", '[devices]\ntrace = "bits.json"')
    scenario.write_text(text)
    read, recorded = read_many_scenario(scenario)
    assert (20, [1, 1, 1, 0]) == (read.devices.count, np.asarray(recorded.tokens).tolist())
    assert 0 == many(scenario).exit_code


def test_requests_arrive_as_they_were_recorded(scenario: Path, tmp_path: Path) -> None:
    (tmp_path / "asked.json").write_text("[[0.5, 20, 10], [1.2, 9, 5], [1.2, 30, 10]]")
    scenario.write_text(with_arrivals('"asked.json"'))
    file, picture = tmp_path / "out.json", tmp_path / "out.svg"
    result = many(scenario, "--json", file, "--plot", picture)
    assert 0 == result.exit_code, result.output
    outcome = msgspec.json.decode(file.read_bytes())["outcome"]
    assert 2 == round(2.0 * outcome["requests_per_second"])  # the first is over in the warm-up
    assert [3, 3] == [len(outcome["history"][key]) for key in ("seconds", "window_counts")]
    assert picture.read_text().startswith("<?xml")
    assert "those of 1.5 times" in result.output


def with_arrivals(trace: str) -> str:
    text = SMALL.replace("POLICY", "rate")
    return text.replace("[requests]", f"[requests]\ntrace = {trace}")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[[2.0, 3, 4], [1.0, 3, 4]]", "request 1 comes before the one in front of it"),
        ("[[1.0, 0, 4]]", "is no list of [seconds, prompt tokens, output tokens]"),
        ("[]", "must hold 1 to 10,000,000 requests"),
    ],
)
def test_arrivals_that_are_wrong_are_a_sentence_with_file_and_line(
    scenario: Path, tmp_path: Path, content: str, words: str
) -> None:
    (tmp_path / "asked.json").write_text(content)
    text = with_arrivals('"asked.json"').replace("[devices]", '[devices]\ntrace = "none.json"')
    scenario.write_text(text)
    result = many(scenario)
    assert 78 == result.exit_code
    assert f"{scenario}:12: requests.trace: {tmp_path / 'asked.json'}" in result.output
    assert words in result.output
    assert f"{scenario}:9: devices.trace: " in result.output  # both at once


def test_arrivals_have_one_source(scenario: Path) -> None:
    scenario.write_text(with_arrivals('"x.json"\nper_second = 2.0'))
    result = many(scenario)
    assert 78 == result.exit_code
    assert f"{scenario}:12: requests.per_second = 2.0: must be 0 beside" in result.output


def test_every_problem_is_told_with_its_line(scenario: Path) -> None:
    text = SMALL.replace("POLICY", "best").replace("count = 20", "count = 0\nacceptence = 1")
    scenario.write_text(text.replace("seconds = 3.0", "seconds = 0.5"))
    result = many(scenario)
    assert 78 == result.exit_code
    for words in (
        f"{scenario}:3: scenario.warm_up_seconds = 1.0: must be less than",
        f'{scenario}:7: verifiers.policy = "best"',
        f"{scenario}:9: devices.count = 0",
        f"{scenario}:10: devices.acceptence: unknown key (did you mean devices.acceptance?)",
        "4 problems. Nothing was started.",
    ):
        assert words in result.output


def test_a_trace_that_is_not_there_is_a_sentence(scenario: Path) -> None:
    scenario.write_text(SMALL.replace("POLICY", "rate") + "[devices.x]\n")
    assert 78 == many(scenario).exit_code
    text = SMALL.replace("POLICY", "rate").replace("[devices]", '[devices]\ntrace = "none.json"')
    scenario.write_text(text)
    result = many(scenario)
    assert 78 == result.exit_code
    assert f"{scenario}:9: devices.trace: " in result.output
    assert "none.json cannot be read: No such file" in result.output


@pytest.mark.parametrize("file", sorted(SCENARIOS.glob("*.toml")), ids=lambda file: file.stem)
def test_scenarios_that_ship_say_what_they_show(file: Path) -> None:
    scenario, _ = read_many_scenario(file)
    assert scenario.scenario.shows
    assert scenario.verifiers.count == len(scenario.setting.targets)


def test_a_run_that_is_interrupted_leaves_no_file(
    scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(part_processes, "play_in_parts", interrupt)
    file = tmp_path / "out.json"
    result = many(scenario, "--json", file)
    assert (130, True) == (result.exit_code, "nothing was written" in result.output)
    assert not file.exists()
