"""Triton for tests: on a GPU as it is, elsewhere through its interpreter, if it is installed.

`tests/conftest.py` imports this module first: Triton makes up its mind when it is imported itself,
and other packages do that too.
"""

from __future__ import annotations

import inspect
import os
from typing import Any

import pytest
import torch

IS_INTERPRETED = not torch.cuda.is_available()
DEVICE = torch.device("cpu" if IS_INTERPRETED else "cuda")
if IS_INTERPRETED:
    os.environ["TRITON_INTERPRET"] = "1"


def import_triton() -> None:
    """Call this before a module with kernels is imported; skips the test without Triton."""
    pytest.importorskip("triton", reason="Triton comes with CUDA builds of torch")
    if IS_INTERPRETED:
        _patch_the_language_once()


def _patch_the_language_once() -> None:
    """Let the interpreter replace Triton's functions once in a launch.

    It does that anew for each function that a kernel calls, and only puts them back when the kernel
    has ended: that alone is half of what the interpreter takes.
    """
    from triton.runtime import interpreter

    if hasattr(interpreter, "_patch_lang") and not hasattr(interpreter._patch_lang, "patched"):
        interpreter._patch_lang = _PatchOnce(interpreter)


class _PatchOnce:
    """Stands in for the interpreter's `_patch_lang`, which it calls for every function."""

    def __init__(self, interpreter: Any) -> None:
        self.patched: set[str] = set()  # modules, while a kernel runs
        self._patch = interpreter._patch_lang
        self._no_changes = interpreter._LangPatchScope
        self._names = {interpreter.tl.__name__, interpreter.tl.core.__name__}

    def __call__(self, function: Any) -> Any:
        modules = filter(inspect.ismodule, function.__globals__.values())
        names = {module.__name__ for module in modules} & self._names
        if names <= self.patched:
            return self._no_changes()
        is_kernel = not self.patched
        self.patched |= names
        scope = self._patch(function)
        if is_kernel:
            self._forget_after(scope)
        return scope

    def _forget_after(self, scope: Any) -> None:
        restore = scope.restore

        def restore_and_forget() -> None:
            restore()
            self.patched.clear()

        scope.restore = restore_and_forget
