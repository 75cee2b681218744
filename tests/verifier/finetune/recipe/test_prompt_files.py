"""Prompts are read whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import RequestRefused
from verifier.finetune.recipe.prompt_files import Prompt, read_prompts


def test_objects_and_lines_are_prompts(tmp_path: Path) -> None:
    objects, lines = tmp_path / "a.jsonl", tmp_path / "b.txt"
    objects.write_text(
        '{"prompt": "one", "domain": "p3/x"}\n\n{"turns": ["two", "more"], "id": 1}\n'
    )
    lines.write_text("three \u2028 and\n\nfour\n")
    expected = (
        *(Prompt("one", "p3"), Prompt("two", "prompts")),
        *(Prompt("three \u2028 and", "prompts"), Prompt("four", "prompts")),
    )
    assert expected == read_prompts([objects, lines])


def test_a_mark_of_its_byte_order_is_no_part_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "one"}\n')
    assert (Prompt("one", "prompts"),) == read_prompts([path])


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.txt", b"caf\xe9", "not UTF-8 text: byte 0xe9 at 3"),
        ("a.txt", b" \n", "has no prompt"),
        ("a.jsonl", b'{"prompt": "x"}\n{"prompt": 3}', "line 2: Expected `str`"),
        ("a.jsonl", b'{"turns": []}', "line 1: has neither a prompt nor turns"),
        ("a.jsonl", b"hello", "line 1"),
    ],
)
def test_what_is_no_prompt_is_told_with_its_line(
    tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RequestRefused, match=sentence):
        read_prompts([tmp_path / name])


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(RequestRefused, match=r"cannot read no\.txt"):
        read_prompts([Path("no.txt")])
