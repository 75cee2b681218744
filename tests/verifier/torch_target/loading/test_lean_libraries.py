"""What the first import of torch and transformers is told, and what it leaves out."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from tests.support.programs.command import run
from verifier.torch_target.loading.lean_libraries import KEPT_PRIMITIVES, lean_imports


def test_useless_packages_are_hidden_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("torchao", "triton"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    driver = tmp_path / "driver"
    with lean_imports({}, driver):
        assert None is importlib.util.find_spec("torchao")
        assert None is importlib.util.find_spec("triton")
    assert not {"torchao", "triton"} & sys.modules.keys()
    driver.mkdir()
    with lean_imports({}, driver):
        assert "triton" not in sys.modules


def test_what_is_imported_already_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao", sys)
    with lean_imports({}):
        assert sys is sys.modules["torchao"]
    assert sys is sys.modules["torchao"]


def test_the_users_own_capacity_is_left_alone() -> None:
    environ = {"LRU_CACHE_CAPACITY": "7"}
    with lean_imports(environ):
        pass
    assert "7" == environ["LRU_CACHE_CAPACITY"]
    assert str(KEPT_PRIMITIVES) == environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"]


def test_a_target_is_imported_without_them() -> None:
    """A new process; torchao writes to standard error as soon as it is imported."""
    script = (
        "import os, sys\n"
        "from verifier.torch_target.loading.lean_libraries import lean_imports\n"
        "with lean_imports(os.environ):\n"
        "    import verifier.torch_target.loading.target_loading\n"
        "print(sorted({'torchao', 'transformers'} & sys.modules.keys()))\n"
    )
    assert (0, "['transformers']\n", "") == run(["-c", script])


def test_products_of_new_sizes_take_no_more_memory_for_ever() -> None:
    """Without the limits 1,000 products of different sizes keep 200 MB of compiled code."""
    script = """
import ctypes, os
from verifier.torch_target.loading.lean_libraries import lean_imports
with lean_imports(os.environ):
    import torch
from verifier.torch_target.layers.packed_linear import PackedLinear

def megabytes():
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Anonymous")) >> 10

layer = PackedLinear(torch.nn.Linear(64, 64))
with torch.inference_mode():
    for number in range(1, 97):
        layer(torch.zeros(number, 64))
    before = megabytes()
    for number in range(97, 400):
        layer(torch.zeros(number, 64))
print(megabytes() - before)
"""
    code, output, errors = run(["-c", script])
    assert (0, "") == (code, errors)
    assert int(output) < 20
