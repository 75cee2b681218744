from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from edge_agent.chat.conversation import Conversation, Exchange
from edge_agent.chat.saved_chat import FORMAT, load_chat, save_chat
from shared.errors import RequestRefused

TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def conversation() -> Conversation:
    made = Conversation("Be brief.", {"temperature": 0.5, "goodspeed": {"draft_length": 0}})
    made.replace((Exchange("né?", "oui\n😀"), Exchange("", "")))
    made.is_saved = False
    return made


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path, made, fresh = tmp_path / "new" / "chat.json", conversation(), Conversation(None, {})
    save_chat(made, path, "target")
    load_chat(fresh, path)
    assert made.exchanges == fresh.exchanges
    assert (made.system, made.settings) == (fresh.system, fresh.settings)
    assert made.is_saved


def test_people_can_read_it_but_no_other_user(tmp_path: Path) -> None:
    path = tmp_path / "chat.json"
    save_chat(conversation(), path, "target")
    assert '      "content": "oui\\n😀"\n' in path.read_text()
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert [path] == [*tmp_path.iterdir()]


def test_a_chat_is_saved_again_and_another_file_is_not_touched(tmp_path: Path) -> None:
    path, other = tmp_path / "chat.json", tmp_path / "notes.txt"
    for _ in range(2):
        save_chat(conversation(), path, None)
    other.write_text("my notes")
    with pytest.raises(RequestRefused, match="holds no chat"):
        save_chat(conversation(), other, None)
    assert "my notes" == other.read_text()


@pytest.mark.parametrize("name", ["", "folder", "chat.json/below"])
def test_where_nothing_can_be_written_it_is_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    save_chat(conversation(), tmp_path / "chat.json", None)
    made = conversation()
    with pytest.raises(RequestRefused):
        save_chat(made, tmp_path / name, None)
    assert not made.is_saved


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "holds no chat"),
        (b"\xff", "holds no chat"),
        (b"[" * 10_000, "holds no chat"),
        ({"format": "other", "messages": []}, "no chat that this program knows"),
        ({"format": FORMAT, "messages": TURNS[:1]}, "in turn"),
        ({"format": FORMAT, "messages": TURNS[::-1]}, "in turn"),
        ({"format": FORMAT, "messages": [], "settings": {"magic": 1}}, "no setting magic"),
        ({"format": FORMAT, "messages": [], "settings": {"seed": "x"}}, "seed = x"),
        ({"format": FORMAT, "messages": [], "settings": {"goodspeed": 1}}, "must be an object"),
    ],
)
def test_what_is_no_chat_changes_nothing(tmp_path: Path, content: Any, sentence: str) -> None:
    path, made = tmp_path / "chat.json", conversation()
    before = (made.exchanges, made.system, made.settings)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(RequestRefused, match=sentence):
        load_chat(made, path)
    assert before == (made.exchanges, made.system, made.settings)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(RequestRefused, match="there is no file"):
        load_chat(conversation(), tmp_path / "none.json")
