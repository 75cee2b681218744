from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.chat.conversation import Conversation
from edge_agent.chat.slash_commands import HELP, Command, SlashCommands, read_command
from edge_agent.generation.chat_messages import ChatFinished
from shared.errors import RequestRefused


def ran(*lines: str, conversation: Conversation | None = None) -> list[str]:
    """What each line shows; a refusal ends them."""
    commands = SlashCommands(conversation or Conversation(None, {}), "target")
    shown = []
    for line in lines:
        command = read_command(line)
        assert command is not None
        try:
            shown.append(commands.run(command))
        except RequestRefused as error:
            return [*shown, f"! {error}"]
    return shown


def talked() -> Conversation:
    conversation = Conversation(None, {})
    conversation.add("hi", "hello", ChatFinished("end"))
    return conversation


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("/set seed 7", Command("/set", "seed 7")),
        ("/save  a b.json ", Command("/save", "a b.json")),
        ("/nonsense", Command("/nonsense", "")),
        ("/etc/passwd says what?", None),
        ("what does /set do", None),
        ("", None),
    ],
)
def test_a_line_is_a_command_or_a_question(line: str, command: Command | None) -> None:
    assert command == read_command(line)


def test_help_names_every_command() -> None:
    assert [HELP] == ran("/help")
    for name in SlashCommands.NAMES:
        assert f"\n{name}" in f"\n{HELP}"


def test_an_unknown_command_is_said_to_be() -> None:
    assert ["! unknown command /nonsense, /help shows all"] == ran("/nonsense")


def test_settings_are_changed_and_listed() -> None:
    first, shown, refused = ran("/set top_k 40", "/set", "/set top_k")
    assert "top_k = 40" == first
    assert "40" in shown
    assert refused.startswith("! /set top_k VALUE")


def test_a_file_is_saved_where_it_was_before(tmp_path: Path) -> None:
    path = tmp_path / "my chat.json"
    shown = ran(f'/save "{path}"', "/save", conversation=talked())
    assert [f"saved in {path}"] * 2 == shown
    assert ["! /save PATH says where, for example /save chat.json"] == ran("/save")


def test_what_is_in_no_file_is_not_forgotten_for_another(tmp_path: Path) -> None:
    path = tmp_path / "chat.json"
    ran(f"/save {path}", conversation=talked())
    conversation = talked()
    (refused,) = ran(f"/load {path}", conversation=conversation)
    assert refused.startswith("! this conversation is in no file yet")
    assert 1 == len(conversation.exchanges)
    *_, loaded = ran(f"/save {tmp_path}/other", f"/load {path}", conversation=conversation)
    assert "questions and answers: 1, the last: hi" == loaded


def test_a_file_waits_for_one_question(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A" * 1234)
    commands = SlashCommands(Conversation(None, {}), None)
    told = commands.run(Command("/file", f"{tmp_path}/a.txt"))
    assert told.endswith("a.txt, 1,234 characters, goes with the next question")
    assert "a.txt" in commands.run(Command("/file", ""))
    assert 1 == len(commands.take_files())
    assert () == commands.take_files()
