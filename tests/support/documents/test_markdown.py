from __future__ import annotations

import pytest

from tests.support.documents.markdown import (
    TreeLine,
    commands,
    links,
    paths,
    ports,
    sections,
    settings,
    stated_defaults,
    tree_lines,
    values_by_default,
)

PAGE = """\
# A page

```
make demo    # all of it
pip install '.[agent]'
goodspeed-agent run --set a.b=c d
install -m 600 token
```

## Files

A tree:

```
one/                     a package
  two/                     a wing
    three.py                 a module
  four/
five/                    another
```

## More

Say `goodspeed-agent fleet --help` or `python -m one.two`, see [here](one/two.md#part), \
[there](https://example.org/x.md) and [above](#files).
`draft.size = 3` and `draft.model = "a b"`; `draft.size` (30), `draft.rate` (`auto`), `draft.kind` \
is `cpu` (or `cuda`), `draft.other` (see above), `one.py`, `[draft]`, `x` by default.
`one/two/three.py`, `text/plain`; ws://127.0.0.1:80 and http://host:8090/v1.
"""


def test_a_tree_is_read_with_its_folders_and_half_lines() -> None:
    assert [
        TreeLine("one/", "a package"),
        TreeLine("one/two/", "a wing"),
        TreeLine("one/two/three.py", "a module"),
        TreeLine("one/four/", ""),
        TreeLine("five/", "another"),
    ] == tree_lines(PAGE, "Files")


def test_a_page_without_that_heading_has_no_tree() -> None:
    assert [] == tree_lines(PAGE, "File")


@pytest.mark.parametrize("line", ["    deep.py", "   odd.py"])
def test_a_line_without_a_folder_above_it_is_refused(line: str) -> None:
    page = f"\n## Files\n```\none/    a package\n{line}\n```\n"
    with pytest.raises(ValueError, match="no folder above"):
        tree_lines(page, "Files")


def test_commands_are_read_from_blocks_and_spans() -> None:
    assert [
        ["make", "demo"],
        ["pip", "install", ".[agent]"],
        ["goodspeed-agent", "run", "--set", "a.b=c", "d"],
        ["goodspeed-agent", "fleet", "--help"],
        ["python", "-m", "one.two"],
    ] == commands(PAGE)


def test_settings_are_read_with_their_values_and_files_are_none() -> None:
    expected = [
        ("draft.size", "3"),
        ("draft.model", '"a b"'),
        *((f"draft.{key}", None) for key in ("size", "rate", "kind", "other")),
    ]
    assert expected == settings(PAGE)
    assert ["draft"] == sections(PAGE)


def test_a_default_is_what_stands_in_brackets_or_first_after_is() -> None:
    expected = [("draft.size", "30"), ("draft.rate", "auto"), ("draft.kind", "cpu")]
    assert expected == stated_defaults(PAGE)
    assert ["x"] == values_by_default(PAGE)


def test_links_lead_into_the_repository() -> None:
    assert ["one/two.md"] == links(PAGE)


def test_paths_are_those_below_the_given_folders() -> None:
    assert ["one/two/three.py"] == paths(PAGE, {"one"})


def test_ports_are_those_of_addresses() -> None:
    assert {80, 8090} == ports(PAGE)
