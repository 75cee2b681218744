"""A whole answer: its text, what the target thought before it, and the calls that it made. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from edge_agent.generation.generation import PromptPiece, ScoredToken, TextPiece


class SpokenCall(msgspec.Struct, frozen=True):
    """A function that is called; the arguments are JSON, unless a limit cut them off."""

    name: str
    arguments: str = ""

    @property
    def as_object(self) -> dict[str, Any] | None:
        """The arguments; None: they were cut off."""
        try:
            return msgspec.json.decode(self.arguments or "{}", type=dict[str, Any])
        except (msgspec.DecodeError, RecursionError):
            return None

    @property
    def as_text(self) -> str:
        """For dialects that know whole arguments alone, where these were cut off."""
        return f"{self.name}({self.arguments}"


class SpokenAnswer(msgspec.Struct, frozen=True):
    """All of an answer."""

    text: str = ""
    reasoning: str = ""
    calls: tuple[SpokenCall, ...] = ()
    text_logprobs: tuple[ScoredToken, ...] = ()  # of the tokens of `text`, where asked
    num_scored: int = 0  # tokens of all parts
    prompt: PromptPiece | None = None  # where it is told


def spoken(pieces: Iterable[TextPiece]) -> SpokenAnswer:
    """What these pieces say together."""
    texts: dict[str, list[str]] = {"text": [], "reasoning": []}
    calls: list[tuple[str, list[str]]] = []
    scored: list[ScoredToken] = []
    num_scored = 0
    prompt: PromptPiece | None = None
    for piece in pieces:
        if isinstance(piece, PromptPiece):
            prompt = piece
            continue
        num_scored += len(piece.logprobs)
        scored += piece.logprobs if piece.part == "text" else ()
        if piece.part == "call":
            calls.append((piece.text, []))
        elif piece.part == "arguments":
            calls[-1][1].append(piece.text)
        else:
            texts[piece.part].append(piece.text)
    return SpokenAnswer(
        "".join(texts["text"]),
        "".join(texts["reasoning"]),
        tuple(SpokenCall(name, "".join(arguments)) for name, arguments in calls),
        tuple(scored),
        num_scored,
        prompt,
    )


def call_name(prefix: str, response_id: str, *numbers: int) -> str:
    """The id of a call of a response, of so many numbers: as hard to guess as the response's."""
    number = response_id.rpartition("_")[2].rpartition("-")[2]
    return "_".join([prefix, number[:24], *map(str, numbers)])
