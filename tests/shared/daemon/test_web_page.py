"""A page in a package becomes assets whose paths change with them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from shared.daemon.web_page import read_page


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "wing_with_a_page" / "page"
    (folder / "room").mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    links = '<link href="/parts/style.css"><a href="/elsewhere/style.css"></a>'
    (folder / "page.html").write_text(f"{links}<!-- modules -->")
    (folder / "style.css").write_text("p {}")
    (folder / "room" / "door.js").write_text("export {};")
    (folder / "notes.txt").write_text("no part of a page")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wing_with_a_page", raising=False)
    return "wing_with_a_page"


def test_a_page_names_its_parts_by_the_paths_that_they_have(package: str) -> None:
    assets = read_page(package, "/here", "/parts/")
    door, style = sorted(path for path in assets if path != "/here")
    assert door.startswith("/parts/")
    assert door.endswith("/room/door.js")
    assert style == door.replace("room/door.js", "style.css")
    links = f'<link href="{style}"><a href="/elsewhere/style.css"></a>'
    assert f'{links}<link rel="modulepreload" href="{door}">' == assets["/here"].body.decode()
    assert [False, True, True] == [assets[path].is_for_good for path in ("/here", door, style)]


def test_all_parts_move_when_one_of_them_changes(package: str, tmp_path: Path) -> None:
    before = set(read_page(package, "/here", "/parts/"))
    (tmp_path / package / "page" / "style.css").write_text("p { margin: 0 }")
    assert {"/here"} == before & set(read_page(package, "/here", "/parts/"))
