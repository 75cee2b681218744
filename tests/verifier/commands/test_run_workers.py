"""What `goodspeed-verifier run` and `worker` say of several GPUs for one target."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from verifier.cli import main


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    tokens = tmp_path / "tokens"
    CliRunner().invoke(main, ["token", "add", "kitchen", "--tokens-file", str(tokens)])
    given = ["server.port=0", "target.device=cuda:1", f"server.tokens_file={tokens}"]
    return [f"--set={setting}" for setting in given]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--gpus-per-worker", "2"], "workers.local = 1 with workers.gpus_per_worker = 2"),
        (
            ["--gpus-per-worker", "4", "--workers", "2"],
            "workers.local = 2 with workers.gpus_per_worker = 4",
        ),
        (["--set", "workers.gpus_per_worker=3"], "workers.local = 1 with workers.gpus_per_worker"),
        (["--workers", "2"], "workers.local = 2"),
    ],
)
def test_a_target_over_several_gpus_is_a_workers(
    options: list[str], flags: list[str], sentence: str
) -> None:
    result = CliRunner().invoke(main, ["run", *options, *flags])
    assert 78 == result.exit_code
    assert f"{sentence}" in result.stderr
    assert "cannot share target.device = cuda:1; set target.device = auto" in result.stderr


@pytest.mark.parametrize("flags", [["run", "--gpus-per-worker", "9"], ["worker", "--gpus", "0"]])
def test_a_number_that_no_host_has_is_refused(flags: list[str]) -> None:
    result = CliRunner().invoke(main, flags)
    assert 2 == result.exit_code
    assert "1<=x<=8" in result.stderr
