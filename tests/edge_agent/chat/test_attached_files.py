from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_agent.chat.attached_files import (
    AttachedFile,
    read_mentions,
    read_text_file,
    with_files,
)
from shared.errors import RequestRefused


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_stands_below_the_question_in_a_fence_that_it_does_not_break() -> None:
    file = AttachedFile("a.md", "text\n````py\ncode\n````")
    expected = "what?\n\na.md:\n`````\ntext\n````py\ncode\n````\n`````"
    assert expected == with_files("what?", (file,))
    assert "what?" == with_files("what?", ())


def test_words_with_an_at_sign_name_files(folder: Path) -> None:
    (folder / "a.txt").write_text("A")
    (folder / "with space.txt").write_text("B")
    found = read_mentions('@a.txt, @"with space.txt" (@a.txt) me@a.txt @override @/no/such.file')
    assert ["a.txt", "with space.txt"] == [file.name for file in found.files]
    assert ("@override", "@/no/such.file") == found.unknown


def test_bytes_that_mark_utf_8_are_no_text(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"\xef\xbb\xbfA")
    assert "A" == read_text_file("a.txt").text


def test_what_is_no_text_file_is_one_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "binary").write_bytes(b"\x89PNG\r\n")
    (folder / "zeros").write_bytes(b"a\0b")
    (folder / "large").write_bytes(b"a" * ((1 << 20) + 1))
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    sentences = {
        "binary": "binary is no text (byte 0 is not UTF-8)",
        "zeros": "zeros is no text",
        "large": "large exceeds 1 MB",
        "folder": "folder is no file",
        "pipe": "pipe is no file",
        "missing": "missing is not there",
        "a\0b": "a\0b is not there",
    }
    for name, sentence in sentences.items():
        with pytest.raises(RequestRefused) as refused:
            read_text_file(name)
        assert sentence == str(refused.value)


def test_a_file_that_is_named_and_cannot_be_read_is_not_sent_as_text(folder: Path) -> None:
    (folder / "folder").mkdir()
    with pytest.raises(RequestRefused, match="folder is no file"):
        read_mentions("what is in @folder")
