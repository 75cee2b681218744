"""What a line that begins with a slash does to a conversation; it never asks the agent anything."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from edge_agent.chat.attached_files import AttachedFile, read_text_file
from edge_agent.chat.chat_settings import changed, listing
from edge_agent.chat.conversation import Conversation
from edge_agent.chat.display import details
from edge_agent.chat.saved_chat import load_chat, save_chat
from shared.errors import RequestRefused

HELP = """\
/retry          ask the last question again
/system TEXT    the system prompt, from now on; alone: what it is; "" none
/set            sampling of the next answers; /set temperature 0.7 changes it
/file PATH      the text of a file goes with the next question, as does @PATH in it
/save PATH      keep the conversation in a file; alone: in the same file again
/load PATH      go on with a conversation from a file
/stats          figures of the last answer
/reset          forget the conversation
/help           this page
Ctrl-C stops an answer and keeps it, Ctrl-D leaves, Alt-Enter begins a new line
plain text was drafted on this board and accepted, underlined text is the target's own"""


class Command(NamedTuple):
    """A line as a command and what stands behind it."""

    name: str
    argument: str


def read_command(line: str) -> Command | None:
    """None: it is a question. A path at its beginning is one, if more follows it."""
    name, _, argument = line.partition(" ")
    if name in SlashCommands.NAMES or (line.startswith("/") and " " not in line):
        return Command(name, argument.strip())
    return None


class SlashCommands:
    """Of one session; each answers with what is to be shown."""

    NAMES = frozenset(
        {
            *("/retry", "/system", "/set", "/file", "/save", "/load", "/stats", "/reset"),
            "/help",
        }
    )

    def __init__(self, conversation: Conversation, model: str | None) -> None:
        self._conversation = conversation
        self._model = model
        self._path: Path | None = None  # where the conversation was saved or came from
        self._files: list[AttachedFile] = []  # that wait for a question
        self._actions: dict[str, Callable[[str], str]] = {
            "/system": self._system,
            "/set": self._set,
            "/file": self._file,
            "/save": self._save,
            "/load": self._load,
            "/stats": lambda _: self._stats(),
            "/reset": lambda _: self._reset(),
            "/help": lambda _: HELP,
        }

    def run(self, command: Command) -> str:
        """Do it.

        Raises:
            RequestRefused: it cannot be done; nothing has changed.
        """
        action = self._actions.get(command.name)
        if action is None:
            raise RequestRefused(f"unknown command {command.name}, /help shows all")
        return action(command.argument)

    def take_files(self) -> tuple[AttachedFile, ...]:
        """The files that go with the question that is asked now."""
        files, self._files = tuple(self._files), []
        return files

    def _system(self, text: str) -> str:
        if not text:
            return self._conversation.system or "there is no system prompt"
        self._conversation.system = "" if text in ('""', "''") else text
        self._conversation.is_saved = False
        return "the next question has it" if self._conversation.system else "no system prompt"

    def _set(self, text: str) -> str:
        name, _, value = text.partition(" ")
        if value.strip():
            self._conversation.settings = changed(self._conversation.settings, name, value.strip())
            return f"{name} = {value.strip()}"
        if name:
            raise RequestRefused(f"/set {name} VALUE says to what, /set {name} default leaves it")
        return listing(self._conversation.settings)

    def _file(self, text: str) -> str:
        if not text:
            names = ", ".join(file.name for file in self._files)
            return f"with the next question: {names}" if names else "/file PATH says which file"
        file = read_text_file(_unquoted(text))
        self._files.append(file)
        return f"{file.name}, {len(file.text):,} characters, goes with the next question"

    def _save(self, text: str) -> str:
        path = Path(_unquoted(text)).expanduser() if text else self._path
        if path is None:
            raise RequestRefused("/save PATH says where, for example /save chat.json")
        save_chat(self._conversation, path, self._model)
        self._path = path
        return f"saved in {path}"

    def _load(self, text: str) -> str:
        if not text:
            raise RequestRefused("/load PATH says which file")
        if not self._conversation.is_saved:
            raise RequestRefused("this conversation is in no file yet: /save PATH, or /reset")
        path = Path(_unquoted(text)).expanduser()
        load_chat(self._conversation, path)
        self._path = path
        exchanges = self._conversation.exchanges
        last = f", the last: {_shortened(exchanges[-1].question)}" if exchanges else ""
        return f"questions and answers: {len(exchanges)}{last}"

    def _stats(self) -> str:
        conversation = self._conversation
        if conversation.last_finished is None:
            return "no answer yet"
        return details(
            conversation.last_finished, conversation.num_answers, conversation.num_tokens
        )

    def _reset(self) -> str:
        self._conversation.reset()
        self._files.clear()
        self._path = None
        return "the conversation is forgotten"


def _unquoted(text: str) -> str:
    """A path as a shell would read it, as long as it is one word there."""
    try:
        words = shlex.split(text)
    except ValueError:
        return text
    return words[0] if len(words) == 1 else text


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:59] + "…"
