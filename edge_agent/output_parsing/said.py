"""What a target's output says, in parts: the values between the parsers and their readers."""

from __future__ import annotations

from typing import Literal, NamedTuple

Part = Literal["text", "reasoning", "call", "arguments"]
"""Plain text; what the target thought; the name of a function that it calls, whole; more of the
arguments of that call, which are JSON."""


class Said(NamedTuple):
    """One piece, never empty."""

    part: Part
    text: str


def joined(said: list[Said]) -> list[Said]:
    """The same with neighbours of one kind in one piece; every call begins anew."""
    whole: list[Said] = []
    for piece in said:
        if whole and whole[-1].part == piece.part != "call":
            whole[-1] = Said(piece.part, whole[-1].text + piece.text)
        else:
            whole.append(piece)
    return whole
