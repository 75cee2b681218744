"""Where a model runs is chosen once, and what only a GPU needs stays away from a CPU."""

from __future__ import annotations

import subprocess
import sys

_PLACE_ON_A_CPU = """
import sys, torch
from tests.support.models.tiny_models import tiny_llama
from verifier.torch_target.forward.block_cache import CacheShape
from verifier.torch_target.loading.target_loading import load_target
from verifier.torch_target.loading.placement import place_target

shape = CacheShape(num_blocks=3, block_tokens=4, context_tokens=12)
cpu, dtype = torch.device("cpu"), torch.float32
target = place_target(tiny_llama(), shape, device=cpu, dtype=dtype, model_name="tiny")
kernels = "verifier.torch_target.kernels."
print(target.vocab_size, *sorted(name for name in sys.modules if name.startswith(kernels)))
"""


def test_a_cpu_loads_no_kernel() -> None:
    command = [sys.executable, "-c", _PLACE_ON_A_CPU]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
    # These four hold plain values; all others import Triton.
    tables = [
        f"verifier.torch_target.kernels.{name}"
        for name in ("head_shape", "paged_layout", "row_records", "score_rule")
    ]
    assert tables == output.split()[1:]
