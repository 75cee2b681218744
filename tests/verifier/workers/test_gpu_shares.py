"""Each local worker has a GPU of its own, or its part of the cores; too few is a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import ConfigError
from verifier.workers.gpu_shares import VISIBLE, environments_of, gpus_of, threads_of


def test_gpus_are_those_of_the_kernel_or_those_that_may_be_seen(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert ["0", "1", "2", "10"] == gpus_of({}, tmp_path)
    assert ["3", "GPU-ab"] == gpus_of({VISIBLE: "3, GPU-ab"}, tmp_path)
    assert [] == gpus_of({VISIBLE: ""}, tmp_path)


def test_each_has_one_of_its_own() -> None:
    made = environments_of(2, 1, "auto", {"HOME": "/root"}, ["4", "5", "6"])
    assert [{"HOME": "/root", VISIBLE: "4"}, {"HOME": "/root", VISIBLE: "5"}] == made


def test_each_may_have_several() -> None:
    made = environments_of(2, 2, "auto", {}, ["4", "5", "6", "7", "8"])
    assert [{VISIBLE: "4,5"}, {VISIBLE: "6,7"}] == made
    both = "workers.local = 2 with workers.gpus_per_worker = 2"
    with pytest.raises(ConfigError, match=f"{both}, and this machine has 3 GPUs"):
        environments_of(2, 2, "auto", {}, ["0", "1", "2"])
    one = "workers.local = 1 with workers.gpus_per_worker = 2"
    with pytest.raises(ConfigError, match=f"{one} cannot share target.device = cuda:0"):
        environments_of(1, 2, "cuda:0", {}, ["0", "1"])


@pytest.mark.parametrize(("device", "gpus"), [("cpu", ["0"]), ("auto", [])])
def test_on_the_processor_nothing_is_set(device: str, gpus: list[str]) -> None:
    assert [{"A": "b"}] * 3 == environments_of(3, 1, device, {"A": "b"}, gpus)


@pytest.mark.parametrize(
    ("num_workers", "device", "gpus", "sentence"),
    [
        (3, "auto", ["0", "1"], "workers.local = 3, and this machine has 2 GPUs"),
        (2, "cuda", ["0"], "workers.local = 2, and this machine has 1 GPU"),
        (1, "cuda", [], "workers.local = 1, and this machine has 0 GPUs"),
        (2, "cuda:1", ["0", "1"], "workers.local = 2 cannot share target.device = cuda:1"),
    ],
)
def test_too_few_are_a_sentence(
    num_workers: int, device: str, gpus: list[str], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        environments_of(num_workers, 1, device, {}, gpus)


def test_one_worker_may_name_its_gpu() -> None:
    assert [{}] == environments_of(1, 1, "cuda:1", {}, ["0", "1"])


def test_cores_are_shared_and_each_has_one() -> None:
    assert 1 == threads_of(10_000)
    assert threads_of(1) >= threads_of(2) >= 1
