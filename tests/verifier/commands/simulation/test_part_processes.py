"""A world in several processes: the bytes of one, and an end for all where one ends early.

In programs of their own: Python keeps a process beside one that has had others.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCENARIO = """[scenario]
seconds = 3.0
warm_up_seconds = 1.0
[verifiers]
count = 3
slowness = [1.0, 1.5]
[devices]
count = 20
[requests]
output_tokens = [5, 20]
think_seconds = [0.1, 0.2]
"""
WORLD = """
import sys
from verifier.cli import main
if __name__ == "__main__":
    main(["simulate", "many-verifiers", *sys.argv[1:]])
"""
DEATH = """
from verifier.commands.simulation.part_processes import play_in_parts
def play(part, exchange, advance):
    if part.number:
        raise SystemExit(3)
    return exchange(1.0)
if __name__ == "__main__":
    try:
        play_in_parts(play, 3, lambda part: None)
    except EOFError:
        print("ended")
"""


def run(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(program), *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return tmp_path / "program.py"  # spawned processes import it


def test_two_processes_write_the_bytes_of_one(program: Path, tmp_path: Path) -> None:
    program.write_text(WORLD)
    scenario = tmp_path / "small.toml"
    scenario.write_text(SCENARIO)
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    for file, processes in zip(files, (1, 2), strict=True):
        done = run(program, scenario, "--processes", processes, "--json", file)
        assert 0 == done.returncode, done.stderr
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_process_that_ends_early_ends_all(program: Path) -> None:
    program.write_text(DEATH)
    done = run(program)
    assert (0, "ended\n") == (done.returncode, done.stdout)
