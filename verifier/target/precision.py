"""In which numbers a target may be kept and computed, by the names that settings use.

Here because both settings and loading need them, and settings must not import torch.
"""

from __future__ import annotations

from typing import Literal

# `auto`: 16 bits on a GPU, float32 on a CPU, where it is exact.
Precision = Literal["auto", "float32", "bfloat16", "float16"]

# Where a request is silent about sampling: what the model says of itself, or temperature 1.
GenerationDefaults = Literal["model", "none"]

# Of the linear layers' weights; `none`: as everything else.
Quantisation = Literal["none", "int8", "fp8", "int4"]
