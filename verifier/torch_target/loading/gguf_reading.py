"""Read a GGUF model once, and all parts of it, where transformers reads one file three times.

A map of tensor names is built anew for every module, and millions of texts and numbers are made,
among which Python looks for cycles again and again. A model of two layers with Gemma 4's 262,144
ids takes 7 instead of 33 seconds to load (one core of an EPYC 9005, transformers 5.24, gguf 0.19,
2026-11).
"""

from __future__ import annotations

import functools
import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import gguf

from verifier.torch_target.loading.gguf_bulk_reader import BulkReader


@contextmanager
def reading_once(other_parts: Sequence[Path] = ()) -> Iterator[None]:
    """Let the readers of GGUF files remember what they read; nothing is kept afterwards.

    The one file that is read has the tensors of `other_parts`, too.
    """
    reader, name_map = gguf.GGUFReader, gguf.get_tensor_name_map
    collects = gc.isenabled()

    @functools.cache
    def read(path: str | os.PathLike[str]) -> gguf.GGUFReader:
        whole = BulkReader(path)
        for part in other_parts:
            whole.tensors.extend(BulkReader(part).tensors)
        return whole

    _replace(read, functools.cache(name_map))
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
        _replace(reader, name_map)


def _replace(reader: object, name_map: object) -> None:
    gguf.GGUFReader = reader  # type: ignore[misc, assignment]
    gguf.get_tensor_name_map = name_map  # type: ignore[assignment]
