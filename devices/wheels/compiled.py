"""A build hook: what a verifier does for every stream in every round becomes C, by mypyc.

Off unless it is asked for, since it takes minutes and a C compiler; texts and plans are the same:

    HATCH_BUILD_HOOKS_ENABLE=1 pip install '.[verifier]'
"""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGES = ("edge_agent", "verifier", "shared")
# Where a stream's turn in a round is spent (tests/benchmarks/bench_stream_cost.py).
WINGS = (
    *("shared/protocol", "shared/speculation"),
    *("verifier/rounds", "verifier/scheduling", "verifier/streams"),
)
_SETUP = """
from mypyc.build import mypycify
from setuptools import setup

extensions = mypycify({arguments}, group_name="goodspeed", multi_file=True, opt_level="2")
setup(name="goodspeed", packages=[], ext_modules=extensions)
"""
_CHECKS = ("--strict", "--ignore-missing-imports", "--allow-untyped-calls")


class CompilingHook(BuildHookInterface):  # type: ignore[type-arg]  # of no configuration
    """Puts compiled modules beside those that they were made of."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile in a directory of its own: what lies in the tree stays as it is."""
        if version == "editable":
            return
        self._directory = Path(mkdtemp(prefix="goodspeed-compiled-"))
        root = Path(self.root)
        for package in PACKAGES:
            shutil.copytree(root / package, self._directory / package)
        arguments = [*_CHECKS, *compiled_modules(root)]
        (self._directory / "setup.py").write_text(_SETUP.format(arguments=arguments))
        command = [sys.executable, "setup.py", "build_ext", "--build-lib", "compiled"]
        subprocess.run(command, cwd=self._directory, check=True)
        made = self._directory / "compiled"
        for path in made.rglob("*.so"):
            build_data["force_include"][str(path)] = str(path.relative_to(made))
        build_data["infer_tag"], build_data["pure_python"] = True, False

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Nothing is left but the wheel."""
        if version != "editable":
            shutil.rmtree(self._directory)


def compiled_modules(root: Path) -> list[str]:
    """Paths below `root` of all modules that can be compiled."""
    paths = [path for wing in WINGS for path in sorted((root / wing).glob("*.py"))]
    return [str(path.relative_to(root)) for path in paths if can_be_compiled(path)]


def can_be_compiled(path: Path) -> bool:
    """Whether a module has code, and no class that mypyc would make into another one.

    It drops what a class tells its metaclass: `frozen=True` and the rest of a `msgspec.Struct`.
    """
    body = ast.parse(path.read_text()).body
    classes = [node for node in body if isinstance(node, ast.ClassDef)]
    bases = {ast.unparse(base) for node in classes for base in node.bases}
    decorators = {ast.unparse(item) for node in classes for item in node.decorator_list}
    return bool(body) and not (
        any(node.keywords for node in classes)
        or "msgspec.Struct" in bases
        or "runtime_checkable" in decorators
    )
