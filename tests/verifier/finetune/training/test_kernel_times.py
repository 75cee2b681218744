"""Kernels are known by their names."""

from __future__ import annotations

import pytest

from verifier.finetune.training.kernel_times import shares_of


def test_shares_are_by_kind_and_the_largest_is_first() -> None:
    found = shares_of(
        [
            ("void pytorch_flash::flash_fwd_kernel<...>", 1.0),
            ("nvjet_tst_128x256_64x4_1x2_h_bz_NTN", 2.0),
            ("sm90_xmma_gemm_bf16bf16_bf16f32", 1.0),
            ("void at::native::vectorized_elementwise_kernel<4, ...>", 5.0),
            ("_distances", 1.0),
        ]
    )
    assert ["norms, rotations, rounding and casts", "products", "attention", "losses"] == list(
        found
    )
    assert found["products"] == pytest.approx(0.3)


def test_of_nothing_nothing_is_told() -> None:
    assert {} == shares_of([])
