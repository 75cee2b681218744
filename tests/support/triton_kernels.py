"""Triton for tests: on a GPU as it is, elsewhere through its interpreter, if it is installed."""

from __future__ import annotations

import os

import pytest
import torch

IS_INTERPRETED = not torch.cuda.is_available()
DEVICE = torch.device("cpu" if IS_INTERPRETED else "cuda")


def import_triton() -> None:
    """Call this before a module with kernels is imported; skips the test without Triton."""
    if IS_INTERPRETED:
        os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined
    pytest.importorskip("triton", reason="Triton comes with CUDA builds of torch")
