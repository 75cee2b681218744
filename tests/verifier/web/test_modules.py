"""The page's modules without a browser: `node --test` over the files beside this one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.programs.node import NODE, run_node_tests

FILES = sorted(Path(__file__).parent.glob("*.test.mjs"))


@pytest.mark.skipif(NODE is None, reason="there is no node on this machine")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_modules_hold_what_their_tests_say(file: Path) -> None:
    ran = run_node_tests(file)
    assert 0 == ran.returncode, ran.stdout + ran.stderr


def test_there_are_such_tests() -> None:
    assert FILES
