"""From a generation's events to the objects and events of OpenAI's Responses API.

Pure: ids and wall-clock times are arguments.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from edge_agent.api.answers.spoken_answer import SpokenAnswer
from edge_agent.api.error_shapes import Failure, error_body
from edge_agent.api.openai_response import EVENT_STREAM, keepalive_comment
from edge_agent.api.requests.client_request import ClientRequest
from edge_agent.api.responses.output_items import Event, OutputItems
from edge_agent.generation.generation import Finished, TextPiece, Timings


@dataclass(frozen=True, slots=True)
class ResponseNames:
    """What every object of one response says about it."""

    response_id: str
    created_at: int  # Unix seconds
    model: str


class ResponseAnswer:
    """One response; see `edge_agent.api.answers.answer_shape.AnswerShape`; events have numbers."""

    media_type = EVENT_STREAM
    keepalive = staticmethod(keepalive_comment)

    def __init__(self, names: ResponseNames, asked: ClientRequest) -> None:
        self._names = names
        self._asked = asked
        self._items = OutputItems(names.response_id)
        self._num_events = 0
        self.so_far = self._response("queued", [])  # the newest that a client would be told

    @property
    def answer_id(self) -> str:
        return self._names.response_id

    def whole(self, answer: SpokenAnswer, finished: Finished) -> dict[str, Any]:
        status = _status(finished)
        items = self._items.whole(answer, finished.logprobs, status)
        return self._finished(items, status, finished)

    def opening(self) -> bytes:
        self.so_far = self._response("in_progress", [])
        response = {"response": self.so_far}
        return self._event("response.created", response) + self._event(
            "response.in_progress", response
        )

    def piece(self, piece: TextPiece) -> bytes:
        return self._events(self._items.piece(piece))

    def ending(self, finished: Finished) -> bytes:
        status = _status(finished)
        lines = self._events(self._items.end(finished.logprobs, status))
        self.so_far = response = self._finished(self._items.finished, status, finished)
        return lines + self._event(f"response.{status}", {"response": response})

    def failing(self, failure: Failure) -> bytes:
        """Clients look for an `error` inside an event of that name."""
        error = error_body("openai", failure)["error"]
        said = {name: error[name] for name in ("code", "message", "param")}
        self.so_far |= {"status": "failed", "error": {"code": "server_error", **said}}
        return self._event("error", said | {"error": error})

    def _response(self, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        """Until the verifier has said what is in force, only what was asked for is known."""
        generation = self._asked.generation
        sampling, left_open = generation.sampling, generation.left_open
        return {
            "id": self._names.response_id,
            "object": "response",
            "created_at": self._names.created_at,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "max_output_tokens": generation.max_tokens,
            "metadata": self._asked.metadata,
            "model": self._names.model,
            "output": output,
            "parallel_tool_calls": generation.reading.several_calls,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": False,
            "temperature": None if "temperature" in left_open else sampling.temperature,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": _flat_tools(generation.tools),
            "top_logprobs": generation.num_logprobs or 0,
            "top_p": None if "top_p" in left_open else sampling.top_p,
            "truncation": "disabled",
            "usage": None,
        }

    def _finished(
        self, items: list[dict[str, Any]], status: str, finished: Finished
    ) -> dict[str, Any]:
        sampling, is_whole = finished.sampling, status == "completed"
        return self._response(status, items) | {
            "incomplete_details": None if is_whole else {"reason": "max_output_tokens"},
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "usage": _usage(finished.timings),
        }

    def _events(self, events: Iterable[Event]) -> bytes:
        return b"".join(self._event(kind, fields) for kind, fields in events)

    def _event(self, kind: str, fields: dict[str, Any]) -> bytes:
        event = {"type": kind, **fields, "sequence_number": self._num_events}
        self._num_events += 1
        return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode(event) + b"\n\n"


def _status(finished: Finished) -> str:
    return "incomplete" if finished.reason in ("length", "context") else "completed"


def _flat_tools(tools: bytes) -> list[dict[str, Any]]:
    """The tools on offer, in the words of this API."""
    offered = msgspec.json.decode(tools, type=list[dict[str, Any]]) if tools else []
    return [{"type": "function", "strict": False, **tool["function"]} for tool in offered]


def _usage(timings: Timings) -> dict[str, Any]:
    return {
        "input_tokens": timings.prompt_tokens,
        "input_tokens_details": {"cached_tokens": timings.cached_prefix_tokens},
        "output_tokens": timings.output_tokens,
        "output_tokens_details": {"reasoning_tokens": timings.reasoning_tokens},
        "total_tokens": timings.prompt_tokens + timings.output_tokens,
    }
