"""A scenario is read with everything that is wrong with it said at once, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import ConfigError
from verifier.policies.awc_weights import SHIPPED
from verifier.sim.scenario import PROFILE_SPEEDS
from verifier.sim.scenario_file import read_scenario

DEVICES = Path(__file__).parents[3] / "devices"
SCENARIOS = sorted((DEVICES / "scenarios").glob("*.toml"))


def problems_of(directory: Path, text: str) -> list[str]:
    file = directory / "bad.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        read_scenario(file)
    return [problem.replace(f"{directory}/", "") for problem in refused.value.problems]


@pytest.mark.parametrize("file", SCENARIOS, ids=[file.stem for file in SCENARIOS])
def test_every_shipped_scenario_is_right_and_says_what_it_shows(file: Path) -> None:
    assert len(read_scenario(file).run.shows) > 20


@pytest.mark.parametrize("name", PROFILE_SPEEDS)
def test_speeds_of_profiles_are_what_the_profiles_say(name: str) -> None:
    text = (DEVICES / "profiles" / f"{name}.toml").read_text()
    assert f"{PROFILE_SPEEDS[name]:g} tokens/s" in text.replace("\n# ", " ")


def test_all_problems_are_told_at_once_with_file_line_and_key(tmp_path: Path) -> None:
    text = """[scenario]
seconds = -1
[rounds]
policy = "fair"
[bords.x]
count = 1
[boards.pi]
count = 0
acceptance = 1.5
speed = 3
profile = "pi6"
[boards.far]
stalls = [{ from_seconds = 3.0, to_seconds = 1.0 }]
changes = 3
"""
    assert problems_of(tmp_path, text) == [
        "bad.toml:2: scenario.seconds = -1: must be from 0.1 to 1000000",
        'bad.toml:4: rounds.policy = "fair": must be awc, fixed, goodspeed, greedy, '
        "random, rate or threshold",
        "bad.toml:5: bords: unknown table (did you mean boards?)",
        "bad.toml:8: boards.pi.count = 0: must be from 1 to 100000",
        "bad.toml:10: boards.pi.speed: unknown key (did you mean boards.pi.mode?)",
        'bad.toml:11: boards.pi.profile = "pi6": must be jetson-agx-orin, jetson-orin-nano, pi4 or '
        "pi5 (did you mean pi5?)",
        "bad.toml:14: boards.far.changes = 3: must be a list such as "
        "[{ at_seconds = 30.0, acceptance = 0.5 }]",
    ]


def test_what_does_not_go_together_is_named(tmp_path: Path) -> None:
    text = """[boards.pi]
acceptance = [0.5, 1.0]
round_trip_milliseconds = -2.0
confidence_rates = [0.5]
leaves_at_seconds = 0.0
"""
    assert problems_of(tmp_path, text) == [
        "bad.toml:2: boards.pi.acceptance = [0.5, 1.0]: must be above 0 and below 1",
        "bad.toml:3: boards.pi.round_trip_milliseconds = -2.0: must be at least 0",
        "bad.toml:4: boards.pi.confidence_rates = [0.5]: must be as many as confidence_shares",
        "bad.toml:5: boards.pi.leaves_at_seconds = 0.0: must be after joins_at_seconds = 0",
    ]


def test_a_fleet_that_no_round_can_hold_is_refused(tmp_path: Path) -> None:
    text = """[rounds]
max_round_tokens = 600
[boards.pi]
count = 400
streams = 2
[boards.late]
joins_at_seconds = 90
"""
    assert problems_of(tmp_path, text) == [
        "bad.toml:2: rounds.max_round_tokens = 600: must be at least 801, a token for each stream",
        "bad.toml:7: boards.late.joins_at_seconds = 90: must be less than scenario.seconds = 60",
    ]


def test_promises_are_numbers_and_there_are_none_where_rounds_wait_for_every_board(
    tmp_path: Path,
) -> None:
    text = """[rounds]
barrier = true
[boards.a]
slo_milliseconds = 80.0
[boards.b]
slo_milliseconds = 0
"""
    assert problems_of(tmp_path, text) == [
        "bad.toml:4: boards.a.slo_milliseconds = 80: must be left out with rounds.barrier, whose "
        "rounds wait for every board"
    ]
    text = "[boards.a]\nslo_milliseconds = -1.0\n[boards.b]\nslo_milliseconds = 'soon'\n"
    negative, no_number = problems_of(tmp_path, text)
    assert negative.startswith("bad.toml:2: boards.a.slo_milliseconds = -1.0: must be")
    assert no_number.startswith('bad.toml:4: boards.b.slo_milliseconds = "soon": must be')


def test_no_boards_are_no_scenario(tmp_path: Path) -> None:
    assert ["bad.toml: boards: no board is there; add [boards.NAME]"] == problems_of(tmp_path, "")
    assert ["bad.toml:1: boards.x: must be a table, [boards.NAME] with its keys below"] == (
        problems_of(tmp_path, "boards = { x = 3 }")
    )


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "cannot be read: No such file or directory"),
        ("[1, 2]", "must hold 1 to 10,000,000 numbers, each 0 or 1"),
        ("{}", "is no list of 0 and 1: Expected `array`, got `object`"),
        ("[[1, 256]]", "is no list of 0 and 1: Expected `int` <= 255 - at `$[0][1]`"),
        ("[[2, 5]]", "must hold 1 to 10,000,000 numbers, each 0 or 1"),
    ],
)
def test_a_trace_that_cannot_be_played_is_refused(
    tmp_path: Path, content: str | None, complaint: str
) -> None:
    if content is not None:
        (tmp_path / "trace.json").write_text(content)
    (problem,) = problems_of(tmp_path, '[boards.pi]\ntrace = "trace.json"\n')
    assert problem == f"bad.toml:2: boards.pi.trace: trace.json {complaint}"


def test_a_curve_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "curve.json").write_text("[]")
    (problem,) = problems_of(tmp_path, '[target]\ncurve = "curve.json"\n[boards.pi]\n')
    assert problem.startswith("bad.toml:2: target.curve: not a cost curve:")


def test_a_trace_is_played(tmp_path: Path) -> None:
    (tmp_path / "trace.json").write_text("[1, 0, 1]")
    file = tmp_path / "good.toml"
    file.write_text('[boards.pi]\ntrace = "trace.json"\n')
    assert {Path("trace.json"): (True, False, True)} == read_scenario(file).traces


def test_a_trace_may_tell_how_sure_the_board_was(tmp_path: Path) -> None:
    (tmp_path / "trace.json").write_text("[[1, 200], [0, 16], 1]")
    file = tmp_path / "good.toml"
    file.write_text('[boards.pi]\ntrace = "trace.json"\n')
    scenario = read_scenario(file)
    assert {Path("trace.json"): (True, False, True)} == scenario.traces
    assert {Path("trace.json"): bytes([200, 16, 0])} == scenario.trace_confidences


def test_weights_of_awc_are_found_beside_the_scenario_and_wrong_ones_told(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text("[]")
    text = '[rounds]\npolicy = "awc"\nawc_weights = "own.json"\n[boards.pi]\n'
    (problem,) = problems_of(tmp_path, text)
    assert problem.startswith("bad.toml:3: rounds.awc_weights: own.json:1: is no file of AWC's")
    (tmp_path / "own.json").write_bytes(SHIPPED.read_bytes())
    scenario = read_scenario(tmp_path / "bad.toml")
    assert tmp_path / "own.json" == scenario.rounds.awc_weights
