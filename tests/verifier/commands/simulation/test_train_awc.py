"""`goodspeed-verifier train-awc`: the same bytes for the same seed, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from verifier.cli import main
from verifier.policies.awc_weights import read_weights
from verifier.reproduction.dsd import training


def train(file: Path, *more: str) -> Result:
    words = ["train-awc", "--situations", "20", "--seed", "1", "--output", str(file)]
    return CliRunner().invoke(main, [*words, *more])


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    files = [tmp_path / "first.json", tmp_path / "again.json"]
    for file in files:
        result = train(file)
        assert 0 == result.exit_code, result.output
        assert "held-out" in result.output
    assert files[0].read_bytes() == files[1].read_bytes()
    _, content = read_weights(files[0])
    assert "goodspeed-verifier train-awc --situations 20 --seed 1" == content.command


def test_a_network_may_take_inputs_beside_the_papers(tmp_path: Path) -> None:
    result = train(tmp_path / "all.json", "--inputs", "all")
    assert 0 == result.exit_code, result.output
    weights, content = read_weights(tmp_path / "all.json")
    assert 8 == len(weights.into)
    assert content.command.endswith("--seed 1 --inputs all")


def test_a_run_that_is_interrupted_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", interrupt)
    result = train(tmp_path / "out.json")
    assert (130, []) == (result.exit_code, list(tmp_path.iterdir()))
