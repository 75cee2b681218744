"""What `run --workers`, `--gpus-per-worker` and `--ray` make of the settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from shared.config.sections import Loaded, load_config
from shared.errors import ConfigError
from verifier.cli import main
from verifier.config import VerifierConfig
from verifier.wanted_workers import WorkersWanted, with_workers
from verifier.workers.on_ray import keeper


def loaded(**workers: object) -> Loaded[VerifierConfig]:
    overrides = {f"workers.{key}": value for key, value in workers.items()}
    return load_config(VerifierConfig, overrides=overrides)


def counts(wanted: WorkersWanted, **workers: object) -> tuple[int, int, int]:
    section = with_workers(lambda: loaded(**workers), wanted).config.workers
    return section.local, section.on_ray, section.gpus_per_worker


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (WorkersWanted(), (0, 0, 1)),
        (WorkersWanted(3), (3, 0, 1)),
        (WorkersWanted(None, 2), (1, 0, 2)),
        (WorkersWanted(ray="local"), (0, 1, 1)),
        (WorkersWanted(4, 2, "local"), (0, 4, 2)),
    ],
)
def test_flags_go_before_settings(wanted: WorkersWanted, expected: tuple[int, int, int]) -> None:
    assert expected == counts(wanted)


def test_flags_go_beside_settings() -> None:
    assert (2, 3, 1) == counts(WorkersWanted(ray="local"), local=2, ray="local", on_ray=3)
    assert (2, 5, 1) == counts(WorkersWanted(5, ray="local"), local=2)


@pytest.mark.parametrize(
    ("ray", "sentence"),
    [
        ("somewhere", "--ray somewhere: must be local, or host:port"),
        ("10.0.0.1:6379", "workers.secret_file: must be set where workers.ray is not local"),
        ("10.0.0.1:6379", "workers.ray_token_file: must be set where workers.ray is not local"),
    ],
)
def test_a_ray_of_other_hosts_wants_its_secrets(ray: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence.replace(".", r"\.")):
        with_workers(loaded, WorkersWanted(ray=ray))


def test_workers_on_ray_want_a_ray() -> None:
    with pytest.raises(
        ConfigError, match=r"workers\.ray = .*: must be set where workers\.on_ray is"
    ):
        loaded(on_ray=2)


def test_where_ray_is_not_installed_a_sentence_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "find_spec", lambda name: None)
    tokens = tmp_path / "tokens"
    CliRunner().invoke(main, ["token", "add", "kitchen", "--tokens-file", str(tokens)])
    options = ["--set=server.port=0", f"--set=server.tokens_file={tokens}", "--ray", "local"]
    result = CliRunner().invoke(main, ["run", *options])
    assert 78 == result.exit_code
    assert "workers.ray: Ray is not installed; pip install '.[verifier,cluster]'" in result.stderr
