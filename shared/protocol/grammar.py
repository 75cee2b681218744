"""What the text of a stream must be: a grammar that the target is held to, token by token.

Only the verifier reads the text of one, in a process with bounds; a board passes it on.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

MAX_GRAMMAR_BYTES = 64 * 1024  # a bound for Open as a whole; schemas of agents take 1 to 20 KiB

# `gbnf` is llama.cpp's notation, `lark` llguidance's dialect of Lark's; an object of JSON needs no
# text.
GrammarKind = Literal["json_object", "json_schema", "regex", "gbnf", "lark"]


class Grammar(msgspec.Struct, frozen=True, array_like=True):
    """What an output may be; the stream ends where the grammar does, or where any stream ends."""

    kind: GrammarKind
    text: Annotated[str, Meta(max_length=MAX_GRAMMAR_BYTES)] = ""
    field: Annotated[str, Meta(max_length=64)] = "grammar"  # what the client calls it, for errors
