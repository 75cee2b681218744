"""Keeps the text of messages from becoming control tokens, and everything else as it is.

A control token is found by its whole name, so a name in a message is broken by a mark: a character
that is nowhere else. The template and the tokenizer see the message around it unchanged, and the
tokens of the mark itself are taken out at the end. Pure: knows no template and no tokenizer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

import msgspec

# Private use: no text has a meaning for them, no template or tokenizer treats them in a special
# way. Of three alphabets, for one of them has no merges with what is around it.
_ALPHABETS = (range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE), range(0xE000, 0xF900))
_WRITTEN_CHARACTER = re.compile(r"(\S)")


class Marks(msgspec.Struct, frozen=True):
    """Two characters that are in no text of one chat."""

    mark: str
    end: str  # of a message that is to be continued


def unused_marks(texts: Iterable[str]) -> Iterator[Marks]:
    """Pairs that no text holds, one of each alphabet that has any left."""
    held = set().union(*map(set, texts))
    for alphabet in _ALPHABETS:
        match list(islice((c for c in map(chr, alphabet) if c not in held), 2)):
            case [mark, end]:
                yield Marks(mark, end)


def names_pattern(names: Iterable[str]) -> re.Pattern[str] | None:
    """Finds the first character of every one of these names, also where they overlap."""
    longest_first = sorted({name for name in names if name}, key=lambda name: (-len(name), name))
    if not longest_first:
        return None
    # Looking for the first characters alone skips most of a text at once.
    first = "".join(sorted({re.escape(name[0]) for name in longest_first}))
    whole = "|".join(map(re.escape, longest_first))
    return re.compile(f"(?=[{first}])(?=(?:{whole}))(.)", re.DOTALL)


def broken(text: str, pattern: re.Pattern[str] | None, mark: str) -> str:
    """The text with a mark behind the first character of every name."""
    return text if pattern is None else pattern.sub(rf"\g<1>{mark}", text)


def broken_value(value: object, pattern: re.Pattern[str] | None, mark: str) -> object:
    """A value of JSON with all its texts broken."""
    match value:
        case str():
            return broken(value, pattern, mark)
        case list():
            return [broken_value(item, pattern, mark) for item in value]
        case dict():
            return {
                broken(key, pattern, mark): broken_value(item, pattern, mark)
                for key, item in value.items()
            }
        case _:
            return value


def broken_everywhere(text: str, mark: str) -> str:
    """The text with a mark behind every character that is no space: it can be no part of a name."""
    return _WRITTEN_CHARACTER.sub(rf"\g<1>{mark}", text)


def without_marks(
    token_ids: Sequence[int],
    spans: Sequence[tuple[int, int]],
    text: str,
    mark: str,
    token_bytes: Mapping[int, bytes],
) -> list[int] | None:
    """The tokens of a text without those of its marks; None: a token holds more than its mark.

    `spans` says from which to which character of `text` each token reaches. Ids without bytes
    stand for any character.
    """
    kept: list[int] = []
    taken: dict[int, bytes] = {}
    for token_id, (start, stop) in zip(token_ids, spans, strict=True):
        if mark not in text[start:stop]:
            kept.append(token_id)
        elif stop - start > 1:
            return None
        elif token_id in token_bytes:
            # A space before the mark is in no span, but among the bytes.
            taken[start] = taken.get(start, b"") + token_bytes[token_id]
    return kept if {mark.encode()} >= set(taken.values()) else None
