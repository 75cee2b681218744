"""The control tokens by which targets mark calls and thoughts, each as one character.

Special tokens print nothing, so no text has them; for a parser they stand in it as halves of a
surrogate pair, which no decoded text holds. Where a vocabulary has such a name as an ordinary
token, or a target spells it, it is the name itself: parsers look for both. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

_NAMES = (
    *("<think>", "</think>", "<tool_call>", "</tool_call>"),  # Qwen, Hermes, DeepSeek
    "<|python_tag|>",  # Llama
    *("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "[THINK]", "[/THINK]"),  # Mistral
    *("<|tool_call>", "<tool_call|>", "<|channel>", "<channel|>", '<|"|>'),  # Gemma
    *("<|start|>", "<|channel|>", "<|message|>", "<|constrain|>"),  # gpt-oss
    *("<|end|>", "<|call|>", "<|return|>"),
)
_CHARACTERS: Mapping[str, str] = {name: chr(0xD800 + i) for i, name in enumerate(_NAMES)}
_NOTHING = dict.fromkeys(map(ord, _CHARACTERS.values()))


class Found(NamedTuple):
    """A mark in a text: from where to where."""

    start: int
    stop: int
    name: str


def control_text(name: bytes) -> str:
    """How a special token stands in the text for a parser: as a mark, or not at all."""
    return _CHARACTERS.get(name.decode(errors="replace"), "")


def with_marks(text: str) -> str:
    """A text in which names of control tokens are those tokens."""
    for name, character in _CHARACTERS.items():
        text = text.replace(name, character)
    return text


def without_marks(text: str) -> str:
    """What of a text may be shown."""
    return text.translate(_NOTHING)


def find_mark(text: str, names: Iterable[str]) -> Found | None:
    """The first of these marks, spelled or not."""
    first: Found | None = None
    for name in names:
        for form in (_CHARACTERS[name], name):
            at = text.find(form)
            if at >= 0 and (first is None or at < first.start):
                first = Found(at, at + len(form), name)
    return first


def starts_with_mark(text: str, names: Iterable[str]) -> Found | None:
    """The mark with which the text starts."""
    found = find_mark(text, names)
    return found if found is not None and found.start == 0 else None


def may_become(text: str, wanted: Sequence[str]) -> bool:
    """Whether the text is the beginning of one of these, and not yet the whole."""
    return any(form.startswith(text) and form != text for form in wanted)


def certain_length(text: str, names: Iterable[str]) -> int:
    """How much of the text is certain to belong to no spelled mark that is not complete."""
    names = tuple(names)
    longest = max(map(len, names))
    for start in range(max(len(text) - longest + 1, 0), len(text)):
        if may_become(text[start:], names):
            return start
    return len(text)
