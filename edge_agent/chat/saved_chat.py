"""Conversations in files: JSON that people can read, replaced in one step, their owner's alone.

It must never overwrite a file that holds something else.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import msgspec

from edge_agent.chat.chat_settings import known_settings
from edge_agent.chat.conversation import Conversation, Exchange
from shared.daemon.files import replace_file
from shared.errors import RequestRefused

FORMAT = "goodspeed chat 1"
MAX_SAVED_BYTES = 32 << 20
_OWNER_ONLY = 0o600


class _Turn(msgspec.Struct, frozen=True):
    role: Literal["user", "assistant"]
    content: str


class _SavedChat(msgspec.Struct, frozen=True):
    format: str
    messages: tuple[_Turn, ...]
    system: str = ""
    settings: dict[str, Any] = {}
    model: str | None = None


def save_chat(conversation: Conversation, path: Path, model: str | None) -> None:
    """Write it down; `is_saved` holds then.

    Raises:
        RequestRefused: the file holds something else, or cannot be written.
    """
    try:
        if path.exists() and not _is_chat(path):
            raise RequestRefused(f"{path} holds no chat: choose another name")
        replace_file(path, _as_json(conversation, model), mode=_OWNER_ONLY)
    except OSError as error:
        raise RequestRefused(f"cannot write {path}: {_reason(error)}") from error
    conversation.is_saved = True


def load_chat(conversation: Conversation, path: Path) -> None:
    """Go on with a conversation from a file, with its system prompt and settings.

    Raises:
        RequestRefused: there is none; nothing has changed then.
    """
    saved = _read(path)
    settings = known_settings(saved.settings)
    exchanges = _exchanges(saved.messages, path)
    conversation.system = saved.system
    conversation.settings = settings
    conversation.replace(exchanges)


def _as_json(conversation: Conversation, model: str | None) -> bytes:
    messages = [
        {"role": role, "content": content}
        for exchange in conversation.exchanges
        for role, content in zip(("user", "assistant"), exchange, strict=True)
    ]
    saved = {
        "format": FORMAT,
        "model": model,
        "system": conversation.system,
        "settings": conversation.settings,
        "messages": messages,
    }
    text = json.dumps(saved, ensure_ascii=False, indent=2) + "\n"
    return text.encode(errors="replace")


def _is_chat(path: Path) -> bool:
    try:
        _read(path)
    except RequestRefused:
        return False
    return True


def _read(path: Path) -> _SavedChat:
    try:
        if not path.is_file():
            raise RequestRefused(f"there is no file {path}")
        with path.open("rb") as file:
            content = file.read(MAX_SAVED_BYTES + 1)
    except OSError as error:
        raise RequestRefused(f"cannot read {path}: {_reason(error)}") from error
    if len(content) > MAX_SAVED_BYTES:
        raise RequestRefused(f"{path} exceeds {MAX_SAVED_BYTES >> 20} MB")
    try:
        saved = msgspec.json.decode(content, type=_SavedChat)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestRefused(f"{path} holds no chat: {error}") from error
    if saved.format != FORMAT:
        raise RequestRefused(f"{path} holds no chat that this program knows")
    return saved


def _exchanges(turns: tuple[_Turn, ...], path: Path) -> tuple[Exchange, ...]:
    questions, answers = turns[::2], turns[1::2]
    takes_turns = all(turn.role == "user" for turn in questions) and all(
        turn.role == "assistant" for turn in answers
    )
    if len(questions) != len(answers) or not takes_turns:
        raise RequestRefused(f"{path}: messages must be a question and an answer in turn")
    return tuple(
        Exchange(question.content, answer.content)
        for question, answer in zip(questions, answers, strict=True)
    )


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
