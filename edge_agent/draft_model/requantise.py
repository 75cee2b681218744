"""Smaller copies of a GGUF model, made by llama.cpp."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from pathlib import Path

from edge_agent.draft_model.drafter import QUANTISATIONS
from edge_agent.draft_model.llama_binding import llama_cpp
from edge_agent.draft_model.llama_library import check_magic, error_lines, reason
from shared.errors import ModelError

_FILE_TYPES = {name: getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{name}") for name in QUANTISATIONS}
_REQUANTISED_TENSOR = re.compile(rb"\[\s*(\d+)/\s*(\d+)\]")


def requantise(
    source: Path,
    destination: Path,
    file_type: str,
    on_tensor: Callable[[int], None],
    on_total: Callable[[int], None] = lambda num_tensors: None,
) -> None:
    """Write `source` with weights of `file_type`, one of `QUANTISATIONS`.

    Calls `on_total(tensors)` once, then `on_tensor(tensors done)`.

    Raises:
        ModelError: llama.cpp cannot read the source or write the destination.
    """
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = _FILE_TYPES[file_type]
    params.allow_requantize = True  # the loss costs acceptance, never exactness

    def report(line: bytes) -> None:
        match = _REQUANTISED_TENSOR.match(line)
        if match is not None:
            if int(match[1]) == 1:
                on_total(int(match[2]))
            on_tensor(int(match[1]))

    check_magic(source)
    with error_lines(report) as errors:
        code = llama_cpp.llama_model_quantize(
            bytes(source), bytes(destination), ctypes.byref(params)
        )
    if code != 0:
        raise ModelError(f"llama.cpp cannot requantise {source} to {file_type}: {reason(errors)}")
