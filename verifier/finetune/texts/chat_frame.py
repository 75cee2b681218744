"""What a target's chat template writes around a user's first words.

It must never trust a template: the encoder of chats runs it, in its own process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.errors import ModelError
from shared.protocol.messages import ChatMessage

# Two words that no template contains, and that tokenizers do not merge with what is around them.
_MARKS = ("QQ", "Zebra")


class ChatTokenizer(Protocol):
    """What is needed of the target's tokenizer."""

    def encode_text(self, text: str, *, adds_special: bool = True) -> list[int]: ...

    def encode_chat(self, messages: Sequence[ChatMessage]) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class ChatFrame:
    """Token ids before and behind the words of a user."""

    before: tuple[int, ...]
    behind: tuple[int, ...]

    def around(self, words: list[int]) -> tuple[int, ...]:
        """A whole prompt."""
        return (*self.before, *words, *self.behind)

    def words_of(self, prompt: Sequence[int]) -> Sequence[int]:
        """What stands between the two in a whole prompt."""
        return prompt[len(self.before) : len(prompt) - len(self.behind)]


def chat_frame(tokenizer: ChatTokenizer) -> ChatFrame:
    """The frame of one turn.

    Raises:
        ModelError: the template's frame depends on the words.
    """
    frames = {_around(tokenizer, mark) for mark in _MARKS}
    frame = frames.pop()
    if frames or frame is None:
        raise ModelError("the target's chat template does not put a user's words between two texts")
    return frame


def _around(tokenizer: ChatTokenizer, mark: str) -> ChatFrame | None:
    chat = tokenizer.encode_chat([ChatMessage("user", mark)])
    words = tokenizer.encode_text(mark, adds_special=False)
    for start in range(len(chat) - len(words) + 1):
        if chat[start : start + len(words)] == words:
            return ChatFrame(tuple(chat[:start]), tuple(chat[start + len(words) :]))
    return None
