"""The page's modules without a browser: `node --test` over the files beside this one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
FILES = sorted(FOLDER.glob("*.test.mjs"))
NODE_SECONDS = 60
_NODE = shutil.which("node")


@pytest.mark.skipif(_NODE is None, reason="there is no node on this machine")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_modules_hold_what_their_tests_say(file: Path) -> None:
    assert _NODE is not None
    ran = subprocess.run(
        [_NODE, "--test", str(file)],
        capture_output=True,
        text=True,
        timeout=NODE_SECONDS,
        check=False,
    )
    assert 0 == ran.returncode, ran.stdout + ran.stderr


def test_there_are_such_tests() -> None:
    assert FILES
