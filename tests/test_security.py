"""docs/security.md keeps its word: every line has its test, every setting and command is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import msgspec
import pytest

from edge_agent.config import AgentConfig
from tests.support.documents.markdown import settings
from verifier.config import VerifierConfig

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
CONFIGS: tuple[type[msgspec.Struct], ...] = (VerifierConfig, AgentConfig)
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
_ROW = re.compile(r"^\| (?!---|He cannot|It cannot)(.+?) \|", re.MULTILINE)


def named_tests(text: str) -> list[tuple[str, str]]:
    return _TEST.findall(text)


def has_test(file: str, name: str) -> bool:
    path = ROOT / file
    if not path.is_file():
        return False
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return any(isinstance(node, ast.FunctionDef) and node.name == name for node in body)


def test_every_test_that_is_named_is_there() -> None:
    named = named_tests(PAGE)
    assert 25 < len(named)
    assert [] == [(file, name) for file, name in named if not has_test(file, name)]


def test_every_line_of_a_table_has_its_test() -> None:
    rows = [line for line in PAGE.splitlines() if _ROW.match(line)]
    assert 20 < len(rows)
    assert [] == [row for row in rows if not named_tests(row)]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("tests/test_security.py", "test_that_never_was"),
        ("docs/security.py", "test_every_test_that_is_named_is_there"),
    ],
)
def test_a_test_that_is_not_there_is_noticed(file: str, name: str) -> None:
    assert not has_test(file, name)


def test_every_setting_is_there_and_its_value_the_one_by_default_or_allowed() -> None:
    quoted = settings(PAGE)
    assert quoted
    for key, _ in quoted:
        section, _, name = key.partition(".")
        owners = [getattr(config(), section, None) for config in CONFIGS]
        assert any(hasattr(owner, name) for owner in owners), key


def test_every_target_of_make_is_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"`make ([a-z-]+)`", PAGE)
    assert targets
    assert [] == [target for target in targets if f"\n{target}:" not in makefile]


def test_it_is_read_in_five_minutes() -> None:
    words = re.sub(r"`tests/[^`]+`|[|]|---", "", PAGE).split()
    assert len(words) < 5 * 250
