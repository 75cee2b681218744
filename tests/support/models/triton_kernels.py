"""Triton for tests: on a GPU as it is, elsewhere through its interpreter, if it is installed.

`tests/conftest.py` imports this module first: Triton makes up its mind when it is imported itself,
and other packages do that too.
"""

from __future__ import annotations

import os

import pytest
import torch

IS_INTERPRETED = not torch.cuda.is_available()
DEVICE = torch.device("cpu" if IS_INTERPRETED else "cuda")
if IS_INTERPRETED:
    os.environ["TRITON_INTERPRET"] = "1"


def import_triton() -> None:
    """Call this before a module with kernels is imported; skips the test without Triton."""
    pytest.importorskip("triton", reason="Triton comes with CUDA builds of torch")
