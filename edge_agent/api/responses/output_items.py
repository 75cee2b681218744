"""The items of one response as they come, with their events: thoughts, a message, calls. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from edge_agent.api.answers.spoken_answer import SpokenAnswer, call_name
from edge_agent.api.answers.token_logprobs import listed_logprobs
from edge_agent.generation.generation import ScoredToken, TextPiece
from edge_agent.output_parsing.said import Part

Event = tuple[str, dict[str, Any]]  # its type and its fields

_DELTAS: dict[Part, str] = {
    "text": "response.output_text.delta",
    "reasoning": "response.reasoning_text.delta",
    "arguments": "response.function_call_arguments.delta",
}


class OutputItems:
    """Of one response, whose id the items' ids are made of."""

    def __init__(self, response_id: str) -> None:
        self._response_id = response_id
        self._number = response_id.partition("_")[2]
        self._items: list[dict[str, Any]] = []  # that are finished
        self._part: Part | None = None  # of the item that goes on
        self._name = ""  # of the function that is called by it
        self._texts: list[str] = []  # of that item
        self._scored: list[ScoredToken] = []  # of that item, if it is a message
        self._num_scored = 0  # of all items
        self._num_calls = 0

    def whole(
        self, answer: SpokenAnswer, scored: Sequence[ScoredToken], status: str
    ) -> list[dict[str, Any]]:
        """All items of an answer that was not told in pieces; `scored` are tokens of all parts."""
        items: list[dict[str, Any]] = []
        if answer.reasoning:
            items.append(self._reasoning(len(items), status, answer.reasoning))
        if answer.text or not answer.calls:
            # Behind a call there is no text.
            more = () if answer.calls else scored[answer.num_scored :]
            part = _part(answer.text, (*answer.text_logprobs, *more))
            items.append(self._message(len(items), status, [part]))
        for i, call in enumerate(answer.calls):
            items.append(self._call(len(items), i, status, call.name, call.arguments))
        return items

    def piece(self, piece: TextPiece) -> Iterator[Event]:
        """What one more piece is told by."""
        self._num_scored += len(piece.logprobs)
        if piece.part == "call":
            yield from self._finish("completed")
            self._part, self._name = "arguments", piece.text
            item = self._call(len(self._items), self._num_calls, "in_progress", piece.text, "")
            yield "response.output_item.added", self._output_index() | {"item": item}
            return
        if piece.part != self._part:
            yield from self._finish("completed")
            self._part = piece.part
            yield from self._begin()
        self._texts.append(piece.text)
        more: dict[str, Any] = {}
        if piece.part == "text":
            self._scored += piece.logprobs
            more = {"logprobs": listed_logprobs(piece.logprobs)}
        yield _DELTAS[piece.part], self._place() | {"delta": piece.text} | more

    def end(self, scored: Sequence[ScoredToken], status: str) -> Iterator[Event]:
        """What the last item ends with, which may be an empty message; `scored` as in `whole`."""
        if self._part is None and not self._items:
            self._part = "text"
            yield from self._begin()
        if self._part == "text":
            self._scored += scored[self._num_scored :]
        yield from self._finish(status)

    @property
    def finished(self) -> list[dict[str, Any]]:
        """The items so far."""
        return self._items

    def _begin(self) -> Iterator[Event]:
        at = len(self._items)
        if self._part == "reasoning":
            item = self._reasoning(at, "in_progress", "")
            yield "response.output_item.added", self._output_index() | {"item": item}
            return
        item = self._message(at, "in_progress", [])
        yield "response.output_item.added", self._output_index() | {"item": item}
        yield "response.content_part.added", self._place() | {"part": _part("")}

    def _finish(self, status: str) -> Iterator[Event]:
        text, at = "".join(self._texts), len(self._items)
        match self._part:
            case None:
                return
            case "text":
                part = _part(text, self._scored)
                said = {name: part[name] for name in ("text", "logprobs")}
                yield "response.output_text.done", self._place() | said
                yield "response.content_part.done", self._place() | {"part": part}
                item = self._message(at, status, [part])
            case "reasoning":
                yield "response.reasoning_text.done", self._place() | {"text": text}
                item = self._reasoning(at, status, text)
            case _:
                done = {"name": self._name, "arguments": text}
                yield "response.function_call_arguments.done", self._place() | done
                item = self._call(at, self._num_calls, status, self._name, text)
                self._num_calls += 1
        yield "response.output_item.done", self._output_index() | {"item": item}
        self._items.append(item)
        self._part, self._texts, self._scored = None, [], []

    def _output_index(self) -> dict[str, Any]:
        return {"output_index": len(self._items)}

    def _place(self) -> dict[str, Any]:
        at = len(self._items)
        place: dict[str, Any] = {"output_index": at}
        if self._part == "arguments":
            return place | {"item_id": self._item_id("fc", at)}
        prefix = "rs" if self._part == "reasoning" else "msg"
        return place | {"item_id": self._item_id(prefix, at), "content_index": 0}

    def _item_id(self, prefix: str, at: int) -> str:
        return f"{prefix}_{self._number}" + (f"_{at}" if at else "")

    def _message(self, at: int, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._item_id("msg", at),
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content,
        }

    def _reasoning(self, at: int, status: str, text: str) -> dict[str, Any]:
        content = [{"type": "reasoning_text", "text": text}] if text else []
        named = {"id": self._item_id("rs", at), "type": "reasoning", "status": status}
        return {**named, "summary": [], "content": content}

    def _call(self, at: int, index: int, status: str, name: str, arguments: str) -> dict[str, Any]:
        return {
            "id": self._item_id("fc", at),
            "type": "function_call",
            "call_id": call_name("call", self._response_id, index),
            "status": status,
            "name": name,
            "arguments": arguments,
        }


def _part(text: str, scored: Sequence[ScoredToken] = ()) -> dict[str, Any]:
    logprobs = listed_logprobs(scored)
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}
