"""The first import of torch and transformers, so that both take less memory and say nothing.

This module must never import either.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path

# oneDNN compiles code for each number of rows that a layer has seen, 0.2 to 0.7 MB each, and keeps
# 1,024 of them; torch keeps as many of its own beside it. A round of a new size compiles five, in
# 3 ms; 96 hold those of ordinary rounds (2 cores of an EPYC 9005, torch 2.13, 2026-11).
KEPT_PRIMITIVES = 96
_CAPACITIES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")

# transformers imports it for checkpoints in formats of its own: 2 s, and six lines of warnings.
_TORCHAO = "torchao"
# torch imports it wherever it is installed; without a GPU it is 70 MB of nothing.
_TRITON = "triton"
_NVIDIA_DRIVER = Path("/proc/driver/nvidia")

# They warn at every start of builds that this program does not use.
_TALKATIVE = (_TORCHAO, "torch.utils._pytree")


@contextmanager
def lean_imports(
    environ: MutableMapping[str, str], driver: Path = _NVIDIA_DRIVER
) -> Iterator[None]:
    """Around the first import of them; what the user has set in the environment stays.

    Packages that are of no use at this import are hidden from it; not those already imported.
    """
    for capacity in _CAPACITIES:
        environ.setdefault(capacity, str(KEPT_PRIMITIVES))
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    useless = {_TORCHAO} if driver.exists() else {_TORCHAO, _TRITON}
    hidden = useless - sys.modules.keys()
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
