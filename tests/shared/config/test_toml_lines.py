from __future__ import annotations

from shared.config.toml_lines import find_lines, line_of

TEXT = '''\
# threads = 1
title = """
[not.a.section]
threads = 2
"""
[draft]
threads = 3  # """
"quoted key" = 4
 rates . slow=5

[ draft . deep ]
inner = [
  "threads = 6",
]
[[fleet]]
name = \'\'\'one line\'\'\'
'''


def test_every_key_on_a_line_of_its_own_is_found_with_its_table() -> None:
    expected = {
        ("title",): 2,
        ("draft",): 6,
        ("draft", "threads"): 7,
        ("draft", "quoted key"): 8,
        ("draft", "rates", "slow"): 9,
        ("draft", "deep"): 11,
        ("draft", "deep", "inner"): 12,
        ("fleet",): 15,
        ("fleet", "name"): 16,
    }
    assert expected == find_lines(TEXT.replace('  # """', ""))


def test_a_multi_line_literal_string_hides_its_lines() -> None:
    assert {("a",): 1, ("b",): 4} == find_lines("a = '''\nb = 1\n'''\nb = 2\n")


def test_a_key_in_an_inline_table_has_the_line_of_the_table() -> None:
    lines = find_lines("\ndraft = { threads = 4 }\n")
    assert 2 == line_of(("draft", "threads"), lines)


def test_a_key_that_is_nowhere_has_no_line() -> None:
    assert None is line_of(("draft", "threads"), {})
