"""Read a GGUF model once, and all parts of it, where transformers reads one file three times.

Its reader spends seconds on the vocabulary each time, and a map of tensor names is built anew for
every module. Kept for the time of a load, SmolLM2-135M took 6 instead of 20 seconds of one core
(EPYC 9005, transformers 5.23, gguf 0.19, 2026-11).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import gguf


@contextmanager
def reading_once(other_parts: Sequence[Path] = ()) -> Iterator[None]:
    """Let the readers of GGUF files remember what they read; nothing is kept afterwards.

    The one file that is read has the tensors of `other_parts`, too.
    """
    reader, name_map = gguf.GGUFReader, gguf.get_tensor_name_map

    @functools.cache
    def read(path: str | os.PathLike[str]) -> gguf.GGUFReader:
        whole = reader(path)
        for part in other_parts:
            whole.tensors.extend(reader(part).tensors)
        return whole

    _replace(read, functools.cache(name_map))
    try:
        yield
    finally:
        _replace(reader, name_map)


def _replace(reader: object, name_map: object) -> None:
    gguf.GGUFReader = reader  # type: ignore[misc, assignment]
    gguf.get_tensor_name_map = name_map  # type: ignore[assignment]
