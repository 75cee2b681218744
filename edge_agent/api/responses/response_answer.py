"""From a generation's events to the objects and events of OpenAI's Responses API.

Pure: ids and wall-clock times are arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from edge_agent.api.error_shapes import Failure, error_body
from edge_agent.api.openai_response import EVENT_STREAM, keepalive_comment
from edge_agent.api.requests.client_request import ClientRequest
from edge_agent.generation.generation import Finished, TextPiece, Timings


@dataclass(frozen=True, slots=True)
class ResponseNames:
    """What every object of one response says about it."""

    response_id: str
    item_id: str  # of its one message
    created_at: int  # Unix seconds
    model: str


class ResponseAnswer:
    """One response; see `edge_agent.api.answers.answer_shape.AnswerShape`; events have numbers."""

    media_type = EVENT_STREAM
    keepalive = staticmethod(keepalive_comment)

    def __init__(self, names: ResponseNames, asked: ClientRequest) -> None:
        self._names = names
        self._asked = asked
        self._texts: list[str] = []
        self._num_events = 0
        self.so_far = self._response("queued", [])  # the newest that a client would be told

    @property
    def answer_id(self) -> str:
        return self._names.response_id

    def whole(self, text: str, finished: Finished) -> dict[str, Any]:
        sampling = finished.sampling
        is_whole = finished.reason not in ("length", "context")
        status = "completed" if is_whole else "incomplete"
        return self._response(status, [self._item(status, [_part(text)])]) | {
            "incomplete_details": None if is_whole else {"reason": "max_output_tokens"},
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "usage": _usage(finished.timings),
        }

    def opening(self) -> bytes:
        self.so_far = self._response("in_progress", [])
        response = {"response": self.so_far}
        item = {"output_index": 0, "item": self._item("in_progress", [])}
        return (
            self._event("response.created", response)
            + self._event("response.in_progress", response)
            + self._event("response.output_item.added", item)
            + self._event("response.content_part.added", self._place() | {"part": _part("")})
        )

    def piece(self, piece: TextPiece) -> bytes:
        self._texts.append(piece.text)
        delta = {"delta": piece.text, "logprobs": []}
        return self._event("response.output_text.delta", self._place() | delta)

    def ending(self, finished: Finished) -> bytes:
        text = "".join(self._texts)
        self.so_far = response = self.whole(text, finished)
        item = {"output_index": 0, "item": response["output"][0]}
        return (
            self._event("response.output_text.done", self._place() | {"text": text, "logprobs": []})
            + self._event("response.content_part.done", self._place() | {"part": _part(text)})
            + self._event("response.output_item.done", item)
            + self._event(f"response.{response['status']}", {"response": response})
        )

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
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": False,
            "temperature": None if "temperature" in left_open else sampling.temperature,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": None if "top_p" in left_open else sampling.top_p,
            "truncation": "disabled",
            "usage": None,
        }

    def _item(self, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._names.item_id,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content,
        }

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._names.item_id, "output_index": 0, "content_index": 0}

    def _event(self, kind: str, fields: dict[str, Any]) -> bytes:
        event = {"type": kind, **fields, "sequence_number": self._num_events}
        self._num_events += 1
        return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode(event) + b"\n\n"


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(timings: Timings) -> dict[str, Any]:
    return {
        "input_tokens": timings.prompt_tokens,
        "input_tokens_details": {"cached_tokens": timings.cached_prefix_tokens},
        "output_tokens": timings.output_tokens,
        # Thoughts are not told apart from text.
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": timings.prompt_tokens + timings.output_tokens,
    }
