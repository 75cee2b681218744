"""Torch's exceptions get the names that rounds are run again by."""

from __future__ import annotations

import pytest
import torch

from shared.errors import ModelError
from verifier.target.target import DeviceLost, OutOfMemory
from verifier.torch_target.forward.failures import named_failures


def test_a_cpu_without_memory_is_out_of_memory() -> None:
    with pytest.raises(OutOfMemory), named_failures():
        torch.empty(1 << 62, dtype=torch.uint8)


def test_a_gpu_without_memory_is_out_of_memory() -> None:
    with pytest.raises(OutOfMemory), named_failures():
        raise torch.OutOfMemoryError("tried to allocate 2 GiB")


@pytest.mark.parametrize("stays", [True, False])
def test_a_device_is_lost_when_its_error_stays(
    stays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def synchronize() -> None:
        if stays:
            raise torch.AcceleratorError("an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    expected = DeviceLost if stays else torch.AcceleratorError
    with pytest.raises(expected), named_failures():
        raise torch.AcceleratorError("an illegal memory access was encountered")


def test_any_other_exception_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="shapes") as raised, named_failures():
        raise RuntimeError("shapes do not fit")
    assert not isinstance(raised.value, ModelError)
