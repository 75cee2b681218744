"""A page in a package becomes one file, and a policy that names what may run in it."""

from __future__ import annotations

import base64
import hashlib
import sys
from pathlib import Path

import pytest

from shared.web.served_page import read_page

SCRIPT = '<script type="module" src="main.js"></script>'
STYLE = '<link rel="stylesheet" href="style.css">'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "wing_with_a_page" / "page"
    made.mkdir(parents=True)
    (made.parent / "__init__.py").touch()
    (made / "page.html").write_text(f'<img src="icon.svg">{STYLE}{SCRIPT}<p>main.js</p>')
    (made / "style.css").write_text("p {}")
    (made / "main.js").write_text("run();")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wing_with_a_page", raising=False)
    return made


def digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_a_page_holds_what_it_names_and_its_policy_names_that(folder: Path) -> None:
    page = read_page("wing_with_a_page")
    text = page.body.decode()
    script = text.partition('<script type="module">')[2].partition("</script>")[0]
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert "run();" in script
    assert "\np {}\n" == style
    assert (
        f"script-src 'sha256-{digest(script)}'; style-src 'sha256-{digest(style)}'" in page.policy
    )
    assert '<img src="data:image/svg+xml;base64,' in text
    assert text.endswith("<p>main.js</p>")


def test_its_tag_changes_with_any_part(folder: Path) -> None:
    before = read_page("wing_with_a_page").etag
    assert before == read_page("wing_with_a_page").etag
    (folder / "style.css").write_text("p { margin: 0 }")
    assert before != read_page("wing_with_a_page").etag


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("main.js", "say('</script>');"),
        ("main.js", "say('</SCRIPT >');"),
        ("main.js", "say('<!--');"),
        ("style.css", "p { content: '</style>' }"),
        ("page.html", "<p>no script</p>"),
    ],
)
def test_what_would_break_the_page_is_not_served(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=r"page\.html names"):
        read_page("wing_with_a_page")
