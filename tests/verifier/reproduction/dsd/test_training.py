"""AWC learns: its slopes are right, its situations are paired, its file comes back as it went."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shared.errors import ConfigError
from verifier.policies.awc import network_windows
from verifier.policies.awc_weights import file_of, read_weights
from verifier.reproduction.dsd import training
from verifier.reproduction.dsd.arms import WEIGHTS, ArmName
from verifier.reproduction.dsd.situations import FUSED_LABELS, Drafting, Examples, sweep
from verifier.reproduction.dsd.training import gradients, loss, num_weights, train


def made_up(count: int = 300) -> Examples:
    """Windows that hang on acceptance alone."""
    random = np.random.default_rng(1)
    inputs = random.random((count, 5))
    return Examples(inputs, 2.0 + 8.0 * inputs[:, 1], np.arange(count))


def test_slopes_are_those_of_small_steps() -> None:
    parameters = training._first(np.random.default_rng(2), 5)
    examples = made_up(40)
    slopes = gradients(parameters, examples.inputs, examples.labels)
    for name, slope in slopes.items():
        place = tuple(0 for _ in slope.shape)
        step = np.zeros_like(slope)
        step[place] = 1e-6
        above, below = (
            loss({**parameters, name: parameters[name] + sign * step}, *examples[:2])
            for sign in (1.0, -1.0)
        )
        assert (above - below) / 2e-6 == pytest.approx(slope[place], abs=1e-5), name


def test_training_finds_what_is_there_to_find() -> None:
    trained = train(made_up(), 3, lambda part: None, num_epochs=60)
    assert trained.held_out_error < 0.4 * trained.middle_error
    assert 60 == trained.num_held_out
    again = train(made_up(), 3, lambda part: None, num_epochs=60)
    assert trained.weights.out.tolist() == again.weights.out.tolist()


@pytest.mark.parametrize("drafting", ["waiting", "ahead"])
def test_situations_are_a_function_of_the_seed(drafting: Drafting) -> None:
    parts: list[float] = []
    first, again = (sweep(10, 4, parts.append, drafting) for _ in range(2))
    assert [1.0, 1.0] == parts
    assert first.inputs.tolist() == again.inputs.tolist()
    assert first.labels.tolist() == again.labels.tolist()
    assert (60, 8) == first.inputs.shape
    allowed = {FUSED_LABELS[drafting], *map(float, range(2, 13))}
    assert set(first.labels.tolist()) <= allowed
    assert (first.inputs >= 0.0).all()


@pytest.fixture
def weights_file(tmp_path: Path) -> Path:
    trained = train(made_up(), 5, lambda part: None, num_epochs=1)
    file = tmp_path / "awc.json"
    file.write_bytes(
        file_of(
            trained.weights,
            command="train-awc",
            seed=5,
            situations=300,
            held_out_error=1.0,
            middle_error=2.0,
            fused_part=0.5,
        )
    )
    return file


def test_a_file_comes_back_as_it_went(weights_file: Path) -> None:
    weights, content = read_weights(weights_file)
    assert (300, "train-awc", 0.5) == (content.situations, content.command, content.fused_part)
    assert num_weights(weights) < 1000
    assert weights_file.stat().st_size < 10_000
    trained = train(made_up(), 5, lambda part: None, num_epochs=1)
    rows = made_up(20).inputs
    expected = network_windows(trained.weights, rows)
    assert expected == pytest.approx(network_windows(weights, rows), abs=0.01)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('"version":1', '"version":9', "version = 9: must be 1"),
        ('"seed":5', '"seed":"five"', "seed"),
        ('"out":[', '"out":[0.0,', "out: has the shape (13,), must be (12,)"),
        ('"seed":5', '"sead":5', "sead"),
    ],
    ids=["version", "type", "shape", "key"],
)
def test_a_wrong_file_is_a_sentence_with_its_place(
    weights_file: Path, before: str, after: str, words: str
) -> None:
    weights_file.write_text(weights_file.read_text().replace(before, after, 1))
    with pytest.raises(ConfigError) as raised:
        read_weights(weights_file)
    assert f"{weights_file}:1: " in raised.value.problems[0]
    assert words in str(raised.value)


@pytest.mark.parametrize("arm", WEIGHTS)
def test_what_ships_was_trained_on_enough_and_says_how_well(arm: ArmName) -> None:
    file = WEIGHTS[arm]
    weights, content = read_weights(file)
    assert content.situations >= 2000
    assert f"--situations {content.situations} --seed {content.seed}" in content.command
    assert content.held_out_error < content.middle_error
    assert file.stat().st_size < 10_000
    assert (8 if "8 inputs" in arm else 5) == len(weights.into)
    assert ("ahead" in arm) == content.command.endswith("--drafting ahead")
    assert np.isfinite(network_windows(weights, np.random.default_rng(1).random((20, 8)))).all()


def test_a_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_weights(tmp_path / "none.json")
