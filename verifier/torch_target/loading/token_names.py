"""From the name of a token to its bytes, for every way in which vocabularies spell them.

Pure. It must never guess the way from the names: the caller knows it from the tokenizer's file.
"""

from __future__ import annotations

import re

_BYTE_NAME = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "\u2581"  # SentencePiece's mark for a space
_FOREIGN = "\uffff"  # stands for what the byte alphabet lacks


def byte_level_bytes(name: str) -> bytes:
    """A name in the byte alphabet of GPT-2; one that is not all in it was added as plain text."""
    try:
        return name.translate(_BYTE_OF).encode("latin-1")
    except UnicodeEncodeError:
        return plain_bytes(name)


def sentencepiece_bytes(name: str) -> bytes:
    """A name with SentencePiece's mark in the place of spaces."""
    return plain_bytes(name.replace(_SPACE, " "))


def byte_of_name(name: str) -> bytes | None:
    """The byte that a name like `<0x0A>` stands for, where bytes are spelled so."""
    byte = _BYTE_NAME.fullmatch(name)
    return bytes([int(byte[1], 16)]) if byte else None


def plain_bytes(name: str) -> bytes:
    """A name that is the text itself; bytes that were no UTF-8 are escaped in it."""
    return name.encode(errors="surrogateescape")


def _byte_alphabet() -> dict[int, str]:
    """From the characters of GPT-2's byte alphabet to the characters with their bytes' numbers.

    Printable bytes are spelled as themselves, the others in order from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    spelled = {byte: chr(byte) for byte in printable}
    foreign = dict.fromkeys(others, _FOREIGN)
    return spelled | foreign | {0x100 + place: chr(byte) for place, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()
