"""The device and the numbers of a target, chosen by what is there."""

from __future__ import annotations

import pytest
import torch

from shared.errors import ModelError
from verifier.torch_target.precision.torch_device import choose_device, choose_dtype, hardware_name

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("no_gpu")
def test_auto_is_the_cpu_where_there_is_no_gpu() -> None:
    assert CPU == choose_device("auto") == choose_device("cpu")
    with pytest.raises(ModelError, match="torch sees no GPU here"):
        choose_device("cuda")


@pytest.mark.usefixtures("two_gpus")
def test_auto_is_the_first_gpu_where_there_are_some() -> None:
    assert GPU == choose_device("auto")
    assert CPU == choose_device("cpu")
    assert torch.device("cuda:1") == choose_device("cuda:1")
    with pytest.raises(ModelError, match="but only cuda:0 to cuda:1 are here"):
        choose_device("cuda:2")


def test_a_cpu_computes_in_float32_if_nobody_says_otherwise() -> None:
    assert torch.float32 is choose_dtype("auto", CPU)
    assert torch.bfloat16 is choose_dtype("bfloat16", CPU)


def test_a_gpu_computes_in_what_its_generation_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert torch.float16 is choose_dtype("auto", GPU)
    with pytest.raises(ModelError, match=r"set target\.dtype = float16"):
        choose_dtype("bfloat16", GPU)


def test_times_belong_to_a_gpu_or_to_so_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    assert "NVIDIA H100" == hardware_name(GPU)
    assert f"CPU, {torch.get_num_threads()} threads" == hardware_name(CPU)
