"""Tests of a page's modules without a browser: `node --test` over one file."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

NODE = shutil.which("node")
_SECONDS = 60


def run_node_tests(file: Path) -> subprocess.CompletedProcess[str]:
    """What became of the tests in a file; exit status 0 if all of them hold."""
    assert NODE is not None
    return subprocess.run(
        [NODE, "--test", str(file)], capture_output=True, text=True, timeout=_SECONDS, check=False
    )
