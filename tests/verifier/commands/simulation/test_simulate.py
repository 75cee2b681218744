"""`goodspeed-verifier simulate`: tables, whole files, and problems before anything runs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from verifier.cli import main
from verifier.sim import world
from verifier.sim.outcome import Outcome

SCENARIO = """[scenario]
shows = "Two boards."
seconds = 3.0
[boards.pi]
count = 2
draft_tokens_per_second = [40.0, 120.0]
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    file = tmp_path / "two.toml"
    file.write_text(SCENARIO)
    return file


def simulate(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["simulate", *map(str, arguments)])


def test_the_outcome_is_told_in_tables(scenario: Path) -> None:
    result = simulate(scenario)
    assert 0 == result.exit_code, result.output
    for words in ("Two boards.", "two: policy rate", "pi-1", "pi-2", "Jain index"):
        assert words in result.output


def test_tokens_in_time_are_a_column_where_any_are_promised(scenario: Path) -> None:
    assert "time ┃" not in simulate(scenario).output
    scenario.write_text(SCENARIO.replace("count = 2", "count = 2\nslo_milliseconds = 500.0"))
    result = simulate(scenario)
    assert 0 == result.exit_code, result.output
    assert ("time ┃" in result.output, "100.0%" in result.output) == (True, True)
    assert max(map(len, result.output.splitlines())) <= 80
    assert "…" not in result.output


def test_the_same_seed_writes_the_same_bytes(scenario: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.json" for name in ("first", "again", "other")]
    for file, seed in zip(files, (5, 5, 6), strict=True):
        assert 0 == simulate(scenario, "--seed", seed, "--json", file).exit_code
    first, again, other = (file.read_bytes() for file in files)
    assert first == again != other
    outcome = msgspec.json.decode(first, type=Outcome)
    assert (5, 2) == (outcome.seed, len(outcome.boards))


def test_another_policy_may_be_named(scenario: Path, tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    assert 0 == simulate(scenario, "--policy", "fixed", "--json", file).exit_code
    assert "fixed" == msgspec.json.decode(file.read_bytes(), type=Outcome).policy


def test_every_problem_is_told_and_nothing_runs(scenario: Path) -> None:
    scenario.write_text(SCENARIO.replace("3.0", "0.0").replace("count = 2", "count = -2"))
    result = simulate(scenario)
    assert 78 == result.exit_code
    assert f"{scenario}:3: scenario.seconds" in result.output
    assert f"{scenario}:5: boards.pi.count" in result.output
    assert "2 problems. Nothing was started." in result.output


def test_a_scenario_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    result = simulate(tmp_path / "none.toml")
    assert 78 == result.exit_code
    assert "none.toml: cannot be read: No such file or directory" in result.output


def test_a_run_that_is_interrupted_leaves_no_file(
    scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: world.World) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(world.World, "end", interrupt)
    file = tmp_path / "out.json"
    file.write_text("what was there")
    result = simulate(scenario, "--json", file)
    assert "nothing was written" in result.output
    assert result.exit_code not in (0, 1)
    assert "what was there" == file.read_text()


def test_a_plot_needs_a_format_and_its_library(
    scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = simulate(scenario, "--plot", tmp_path / "out.gif")
    assert (2, True) == (result.exit_code, "must end with .svg, .png or .pdf" in result.output)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = simulate(scenario, "--plot", tmp_path / "out.svg")
    assert (2, True) == (result.exit_code, "pip install 'goodspeed[plot]'" in result.output)


@pytest.mark.parametrize("file_format", ["svg", "png"])
def test_a_picture_is_drawn(scenario: Path, tmp_path: Path, file_format: str) -> None:
    pytest.importorskip("matplotlib")
    files = [tmp_path / f"{name}.{file_format}" for name in ("first", "again")]
    for file in files:
        assert 0 == simulate(scenario, "--plot", file).exit_code
    first, again = (file.read_bytes() for file in files)
    assert len(first) > 10_000
    assert first == again or file_format == "png"
