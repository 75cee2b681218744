"""The form of an answer: what every dialect says in its own words."""

from __future__ import annotations

from typing import Any, Protocol

from edge_agent.api.answers.spoken_answer import SpokenAnswer
from edge_agent.api.error_shapes import Failure
from edge_agent.generation.generation import Finished, TextPiece
from edge_agent.generation.waiting_line import Place


class AnswerShape(Protocol):
    """The form of one answer, which may be told in pieces; made anew for every request."""

    @property
    def answer_id(self) -> str | None:
        """By which clients take a stream up again; None: its lines have no place for one."""
        ...

    @property
    def media_type(self) -> str:
        """Of a stream."""
        ...

    def keepalive(self, place: Place | None) -> bytes:
        """What says in a stream that there is nothing to say, but perhaps a place in the line."""
        ...

    def whole(self, answer: SpokenAnswer, finished: Finished) -> dict[str, Any]:
        """The JSON of an answer that is not streamed."""
        ...

    def opening(self) -> bytes:
        """What comes before all text, with the first piece or the end."""
        ...

    def piece(self, piece: TextPiece) -> bytes:
        """One piece of text, of thoughts or of a call."""
        ...

    def ending(self, finished: Finished) -> bytes:
        """All that comes after the last piece."""
        ...

    def failing(self, failure: Failure) -> bytes:
        """In place of an ending: the stream has begun, so that no status can tell."""
        ...
