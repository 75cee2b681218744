"""llama.cpp as a library: loading a model, its log lines, and the reasons that it gives.

It must never let a line of llama.cpp reach the terminal, nor an exception pass through C.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from edge_agent.draft_model.llama_binding import llama_cpp
from edge_agent.draft_model.llama_build import TILES, read_build
from shared.daemon.peer_text import one_line
from shared.errors import ModelError

logger = logging.getLogger(__name__)

_GGUF_MAGIC = b"GGUF"
_LOG_LEVEL_ERROR = 4  # GGML_LOG_LEVEL_ERROR in ggml.h


def load_model(path: Path, gpu_layers: int) -> llama_cpp.llama_model_p:
    """The model in a GGUF file; the caller frees it.

    Raises:
        ModelError: the file is missing, or llama.cpp cannot load it.
    """
    check_magic(path)
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = gpu_layers
    if TILES in read_build().features:
        params.use_extra_bufts = False
        logger.info("llama.cpp's matrix tiles (AMX) are not used; `doctor` tells what to do")
    with error_lines() as errors:
        llama_cpp.llama_backend_init()
        model: llama_cpp.llama_model_p | None = llama_cpp.llama_model_load_from_file(
            bytes(path), params
        )
    if model is None:
        raise ModelError(f"llama.cpp cannot load {path}: {reason(errors)}")
    return model


def check_magic(path: Path) -> None:
    """Refuse a file that does not begin like GGUF.

    Raises:
        ModelError: it cannot be read, or is something else.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(len(_GGUF_MAGIC))
    except OSError as error:
        raise ModelError(f"cannot read the model file {path}: {error.strerror}") from error
    if magic != _GGUF_MAGIC:
        raise ModelError(f"{path} is not a GGUF file")


@contextlib.contextmanager
def error_lines(on_line: Callable[[bytes], None] | None = None) -> Iterator[list[str]]:
    """Collect the error lines that llama.cpp logs meanwhile, and show every line to `on_line`.

    llama.cpp has one log callback per process; without one it writes to stderr. No exception passes
    through C: a Ctrl-C that arrives in the callback is raised at the end.
    """
    errors: list[str] = []
    interrupts: list[KeyboardInterrupt] = []

    def collect(level: int, text: bytes, user_data: object) -> None:
        try:
            _log_line(level, text, user_data)
            if level == _LOG_LEVEL_ERROR:
                errors.append(text.decode(errors="replace").strip())
            if on_line is not None:
                on_line(text)
        except KeyboardInterrupt as interrupt:
            interrupts.append(interrupt)

    collect_callback = llama_cpp.llama_log_callback(collect)  # alive while C holds it
    llama_cpp.llama_log_set(collect_callback, ctypes.c_void_p(0))
    try:
        yield errors
    finally:
        llama_cpp.llama_log_set(_LOG_CALLBACK, ctypes.c_void_p(0))
    if interrupts:
        raise interrupts[0]


def _log_line(_level: int, text: bytes, _user_data: object) -> None:
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug("llama.cpp: %s", one_line(text.decode(errors="replace").rstrip()))


# Made at import, once for the process: C holds it from the first call on, and may log from its own
# threads until the process ends, so it must never be collected.
_LOG_CALLBACK = llama_cpp.llama_log_callback(_log_line)


def reason(errors: Sequence[str]) -> str:
    """The first error line of llama.cpp: the later ones only say that something failed."""
    return errors[0] if errors else "no reason was given"
