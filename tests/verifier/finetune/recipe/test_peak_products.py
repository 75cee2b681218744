"""What GPUs could do is known by their names, and of others nothing is made up."""

from __future__ import annotations

import pytest

from verifier.finetune.recipe.peak_products import peak_operations


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA A100-SXM4-80GB", 312),
    ],
)
def test_a_listed_device_has_its_peak(name: str, teraflops: int) -> None:
    assert teraflops * 1e12 == peak_operations(name)


def test_another_device_has_none() -> None:
    assert peak_operations("CPU, 2 threads") is None
