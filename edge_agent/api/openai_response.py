"""From a generation's events to the JSON objects and event-stream lines that OpenAI's clients read.

Pure: ids and wall-clock times are arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import msgspec

from edge_agent.api.answers.spoken_answer import SpokenAnswer, call_name
from edge_agent.api.answers.token_logprobs import (
    CompletionLogprobs,
    chat_logprobs,
    prompt_logprobs,
)
from edge_agent.generation.figures import decode_seconds, decode_tokens_per_second
from edge_agent.generation.generation import Finished, PromptPiece, TextPiece, Timings
from edge_agent.generation.waiting_line import Place
from shared.protocol.messages import FinishReason
from shared.speculation.model_defaults import ProcessorField

EVENT_STREAM = "text/event-stream; charset=utf-8"
DONE = b"data: [DONE]\n\n"

# OpenAI has no word for a full context or a cancelled generation.
_FINISH_REASONS: dict[FinishReason, str] = {
    "stop": "stop",
    "end": "stop",
    "length": "length",
    "context": "length",
    "cancelled": "stop",
}


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every JSON object of one answer says about it."""

    response_id: str
    created: int  # Unix seconds
    model: str
    is_chat: bool  # chat completion, else plain completion
    index: int = 0  # of the choice
    echoes_prompt: bool = False
    tells_prompt_logprobs: bool = False  # by the ids of its tokens

    def wrap(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.response_id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            # Unless `rejection` was asked for, a request with a seed is answered in `coupled`: its
            # tokens are the target's own draws, so equal seed and prompt give equal text.
            "system_fingerprint": f"goodspeed:{self.model}",
            "choices": choices,
        }


def whole_answer(envelope: Envelope, answer: SpokenAnswer, finished: Finished) -> dict[str, Any]:
    """The answer to a request that is not streamed."""
    kind = "chat.completion" if envelope.is_chat else "text_completion"
    reason = _finish_reason(finished, bool(answer.calls))
    if envelope.is_chat:
        choice = _choice(envelope, {"message": _message(envelope, answer)}, reason)
        choice["logprobs"] = chat_logprobs(finished.logprobs)
    else:
        echoed = answer.prompt if envelope.echoes_prompt else None
        text = answer.text if echoed is None else echoed.text + answer.text
        choice = _choice(envelope, {"text": text}, reason)
        choice["logprobs"] = _completion_logprobs(finished, echoed)
    body = envelope.wrap(kind, [choice]) | {"usage": usage(finished.timings)}
    if envelope.tells_prompt_logprobs and answer.prompt is not None:
        # Where vLLM has them.
        at = body if envelope.is_chat else choice
        at["prompt_logprobs"] = prompt_logprobs(answer.prompt)
    return body | _extensions(finished)


def first_chunk(envelope: Envelope) -> dict[str, Any]:
    """A chat's chunk before any text: it names the role."""
    return _chunk(envelope, {"role": "assistant", "content": ""}, None)


def text_chunk(envelope: Envelope, piece: TextPiece, num_calls: int = 0) -> dict[str, Any]:
    """The chunk for one piece; so many calls have begun, this one included."""
    call: dict[str, Any] = {"index": num_calls - 1}
    match piece.part:
        case "text":
            delta: dict[str, Any] = {"content": piece.text}
        case "reasoning":
            delta = {"reasoning_content": piece.text}
        case "call":
            delta = {"tool_calls": [call | _tool_call(envelope, num_calls - 1, piece.text, "")]}
        case "arguments":
            delta = {"tool_calls": [call | {"function": {"arguments": piece.text}}]}
    return _chunk(envelope, delta, None)


def last_chunks(
    envelope: Envelope, finished: Finished, includes_usage: bool, num_calls: int = 0
) -> list[dict[str, Any]]:
    """The finish reason, then the usage if it was asked for; the last one holds the timings."""
    chunks = [_chunk(envelope, {}, _finish_reason(finished, num_calls > 0))]
    if includes_usage:
        chunks.append(usage_chunk(envelope, finished.timings))
    chunks[-1] |= _extensions(finished)
    return chunks


def usage_chunk(envelope: Envelope, timings: Timings) -> dict[str, Any]:
    """The chunk without choices, behind all others."""
    kind = "chat.completion.chunk" if envelope.is_chat else "text_completion"
    return envelope.wrap(kind, []) | {"usage": usage(timings)}


def keepalive_comment(place: Place | None) -> bytes:
    """A comment of the event stream, which clients skip and people read.

    With no empty line behind it: for the decoder of OpenAI's client that would end an event, one
    without data, for the id of the event before still counts.
    """
    if place is None:
        return b": keepalive\n"
    seconds = "" if place.seconds is None else f", about {place.seconds} s"
    return f": keepalive, {place.num_ahead} requests ahead{seconds}\n".encode()


def event_line(value: dict[str, Any]) -> bytes:
    """The object as one event of the stream."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def answer_headers(finished: Finished) -> dict[str, str]:
    """Response headers with what the verifier decided about the generation."""
    return {
        "x-goodspeed-acceptance-mode": finished.acceptance_mode,
        "x-goodspeed-seed": str(finished.seed),
    }


def model_list(model: str | None) -> dict[str, Any]:
    """The answer of `GET /v1/models`; empty while there is no verifier."""
    return {"object": "list", "data": [] if model is None else [model_object(model)]}


def model_object(model: str) -> dict[str, Any]:
    """The answer of `GET /v1/models/{id}`; when the model was made is not known here."""
    return {"id": model, "object": "model", "created": 0, "owned_by": "goodspeed"}


def error_object(
    message: str, kind: str, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """An error in OpenAI's shape; `kind` is its `type`."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _completion_logprobs(finished: Finished, echoed: PromptPiece | None) -> dict[str, Any] | None:
    """Of the text; behind a prompt whose tokens are told, of every token that was written.

    Who reads those of a prompt counts the tokens behind it, an end that is no text as well.
    """
    logprobs = CompletionLogprobs()
    if echoed is None:
        return logprobs.told(finished.logprobs)
    logprobs.begin_behind(echoed)
    end = finished.end_logprobs if echoed.logprobs else ()
    return logprobs.told((*echoed.logprobs, *finished.logprobs, *end))


def _chunk(envelope: Envelope, delta: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
    if envelope.is_chat:
        choice = _choice(envelope, {"delta": delta}, finish_reason)
        return envelope.wrap("chat.completion.chunk", [choice])
    choice = _choice(envelope, {"text": delta.get("content", "")}, finish_reason)
    return envelope.wrap("text_completion", [choice])


def _message(envelope: Envelope, answer: SpokenAnswer) -> dict[str, Any]:
    text = None if answer.calls and not answer.text else answer.text
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.calls:
        message["tool_calls"] = [
            _tool_call(envelope, i, call.name, call.arguments)
            for i, call in enumerate(answer.calls)
        ]
    return message


def _tool_call(envelope: Envelope, index: int, name: str, arguments: str) -> dict[str, Any]:
    call_id = call_name("call", envelope.response_id, envelope.index, index)
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _finish_reason(finished: Finished, has_calls: bool) -> str:
    reason = _FINISH_REASONS[finished.reason]
    return "tool_calls" if has_calls and reason == "stop" else reason


def _choice(
    envelope: Envelope, content: dict[str, Any], finish_reason: str | None
) -> dict[str, Any]:
    return {"index": envelope.index, **content, "logprobs": None, "finish_reason": finish_reason}


def usage(timings: Timings) -> dict[str, Any]:
    """What OpenAI counts."""
    return {
        "prompt_tokens": timings.prompt_tokens,
        "completion_tokens": timings.output_tokens,
        "total_tokens": timings.prompt_tokens + timings.output_tokens,
        "prompt_tokens_details": {"cached_tokens": timings.cached_prefix_tokens},
        "completion_tokens_details": {
            "accepted_prediction_tokens": timings.accepted_tokens,
            "rejected_prediction_tokens": timings.rejected_tokens,
            "reasoning_tokens": timings.reasoning_tokens,
        },
    }


def _extensions(finished: Finished) -> dict[str, Any]:
    """Fields beyond OpenAI's: `timings` in llama-server's shape, and what is goodspeed's own."""
    timings = finished.timings
    return {
        "timings": _llama_server_timings(timings),
        "goodspeed": {
            "acceptance_mode": finished.acceptance_mode,
            "seed": finished.seed,
            "sampling": _sampling_in_force(finished),
            "finish_reason": finished.reason,
            "num_verdicts": timings.num_verdicts,
            "num_drafting_verdicts": timings.num_drafting_verdicts,
            "survived_tokens": timings.survived_tokens,
            "rejections": timings.rejections,
            "wire_bytes": timings.wire_bytes,
        },
    }


def _sampling_in_force(finished: Finished) -> dict[str, int | float]:
    """All that a model may ask for itself where the request is silent."""
    asked = {name: getattr(finished.processors, name) for name in get_args(ProcessorField)}
    return msgspec.structs.asdict(finished.sampling) | asked


def _llama_server_timings(timings: Timings) -> dict[str, int | float]:
    """As llama-server's, but that the first token, whose time is the prompt's, makes no speed."""
    num_read = timings.prompt_tokens - timings.cached_prefix_tokens
    prompt_seconds = timings.seconds_to_first_token
    tokens_per_second = decode_tokens_per_second(timings) or 0.0
    return {
        "cache_n": timings.cached_prefix_tokens,
        "prompt_n": num_read,
        "prompt_ms": 1000 * prompt_seconds,
        "prompt_per_token_ms": 1000 * prompt_seconds / num_read if num_read else 0.0,
        "prompt_per_second": num_read / prompt_seconds if prompt_seconds else 0.0,
        "predicted_n": timings.output_tokens,
        "predicted_ms": 1000 * decode_seconds(timings),
        "predicted_per_token_ms": 1000 / tokens_per_second if tokens_per_second else 0.0,
        "predicted_per_second": tokens_per_second,
        "draft_n": timings.drafted_tokens,
        "draft_n_accepted": timings.accepted_tokens,
    }
