"""`goodspeed-verifier simulate heterogeneous-edge`: tables, whole files, all problems at once."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from verifier.cli import main
from verifier.commands.simulation import simulate_edge
from verifier.reproduction.heterogeneous_edge import arms

CELL = """[cell]
users = 9
[stations]
draft_model = "tinyllama-1.1b"
small_slowness = 4.0
"""


@pytest.fixture
def cell(tmp_path: Path) -> Path:
    file = tmp_path / "cell.toml"
    file.write_text(CELL)
    return file


def edge(*arguments: object) -> Result:
    words = ["simulate", "heterogeneous-edge", *map(str, arguments)]
    return CliRunner().invoke(main, words)


def test_every_arm_has_a_row(cell: Path) -> None:
    result = edge(cell)
    assert 0 == result.exit_code, result.output
    assert [] == [arm for arm in arms.ARMS if arm not in result.output]


def test_the_same_seed_writes_the_same_bytes(cell: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.json" for name in ("first", "again", "other")]
    for file, seed in zip(files, (5, 5, 6), strict=True):
        assert 0 == edge(cell, "--seed", seed, "--json", file).exit_code
    first, again, other = (file.read_bytes() for file in files)
    assert first == again != other
    plans = msgspec.json.decode(first)["plans"]
    assert [list(arms.ARMS), 9] == [[p["arm"] for p in plans], sum(plans[0]["batch_sizes"])]


def test_every_problem_is_told_with_its_line(cell: Path) -> None:
    cell.write_text(CELL.replace("users = 9", "users = 0\nuser = 3").replace("tiny", "tini"))
    result = edge(cell)
    assert 78 == result.exit_code
    assert f"{cell}:2: cell.users = 0: must be from 1 to 2000" in result.output
    assert f"{cell}:3: cell.user: unknown key (did you mean cell.users?)" in result.output
    assert f'{cell}:5: stations.draft_model = "tinillama-1.1b"' in result.output
    assert "3 problems. Nothing was started." in result.output


def test_a_station_without_room_for_one_request_is_a_sentence(cell: Path) -> None:
    cell.write_text(CELL + "small_memory_gigabytes = 2.0\n")
    result = edge(cell)
    assert 78 == result.exit_code
    assert f"{cell}:6: stations.small_memory_gigabytes = 2: must be at least 2.26" in result.output


def test_a_run_that_is_interrupted_leaves_no_file(
    cell: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(arms.EdgePlanner, "plan", interrupt)
    file = tmp_path / "out.json"
    result = edge(cell, "--json", file)
    assert (130, True) == (result.exit_code, "nothing was written" in result.output)
    assert not file.exists()


def test_the_arms_are_drawn(cell: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    files = [tmp_path / "first.svg", tmp_path / "again.svg"]
    for file in files:
        assert 0 == edge(cell, "--plot", file).exit_code
    assert files[0].read_bytes() == files[1].read_bytes()


def test_help_shows_a_cell_that_can_be_read(tmp_path: Path) -> None:
    lines = simulate_edge._EXAMPLES.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.strip() == "[cell]")
    file = tmp_path / "shown.toml"
    file.write_text("\n".join(lines[begin:]).replace("users = 300", "users = 3"))
    assert 0 == edge(file).exit_code
