"""Several choices in one of OpenAI's answers: told side by side, each under its index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from edge_agent.api.answers.choices import AllFinished, ChoicePiece
from edge_agent.api.answers.spoken_answer import SpokenAnswer, spoken
from edge_agent.api.error_shapes import Failure, error_body
from edge_agent.api.openai_response import (
    DONE,
    EVENT_STREAM,
    Envelope,
    event_line,
    keepalive_comment,
    usage,
    usage_chunk,
)
from edge_agent.generation.generation import Finished, TextPiece, Timings


class ChoiceAnswer(Protocol):
    """The answer of one choice."""

    envelope: Envelope

    def whole(self, answer: SpokenAnswer, finished: Finished) -> dict[str, Any]: ...
    def opening(self) -> bytes: ...
    def piece(self, piece: TextPiece) -> bytes: ...
    def end(self, finished: Finished) -> bytes:
        """Its finish reason; others may go on."""
        ...


class OpenAIChoices:
    """See `edge_agent.api.answers.answer_shape.AnswerShape`; each index has an answer."""

    media_type = EVENT_STREAM
    keepalive = staticmethod(keepalive_comment)

    def __init__(
        self, answers: Sequence[ChoiceAnswer], num_per_prompt: int, *, includes_usage: bool
    ) -> None:
        self._answers = answers
        self._num_per_prompt = num_per_prompt
        self._includes_usage = includes_usage

    @property
    def answer_id(self) -> str:
        return self._answers[0].envelope.response_id

    def whole(self, answer: SpokenAnswer, finished: Finished) -> dict[str, Any]:
        """One object with all choices; what is goodspeed's own stands with each of them."""
        assert isinstance(finished, AllFinished)
        wholes = [
            answer.whole(spoken(pieces), ended)
            for answer, (pieces, ended) in zip(self._answers, finished.choices, strict=True)
        ]
        choices = [
            whole["choices"][0] | {name: whole[name] for name in ("timings", "goodspeed")}
            for whole in wholes
        ]
        envelope = self._answers[0].envelope
        names = (*envelope.wrap("", []), "prompt_logprobs")  # these of a chat: all have one prompt
        body = {name: wholes[0][name] for name in names if name in wholes[0]}
        return body | {"choices": choices, "usage": usage(self._summed(finished))}

    def opening(self) -> bytes:
        return b"".join(answer.opening() for answer in self._answers)

    def piece(self, piece: TextPiece) -> bytes:
        assert isinstance(piece, ChoicePiece)
        answer, event = self._answers[piece.index], piece.event
        return answer.end(event) if isinstance(event, Finished) else answer.piece(event)

    def ending(self, finished: Finished) -> bytes:
        assert isinstance(finished, AllFinished)
        if not self._includes_usage:
            return DONE
        return event_line(usage_chunk(self._answers[0].envelope, self._summed(finished))) + DONE

    def failing(self, failure: Failure) -> bytes:
        return event_line(error_body("openai", failure)) + DONE

    def _summed(self, finished: AllFinished) -> Timings:
        """With the counts of all choices, each prompt once."""
        timings = [ended.timings for _, ended in finished.choices]
        of_prompts = timings[:: self._num_per_prompt]
        return msgspec.structs.replace(
            timings[0],
            prompt_tokens=sum(one.prompt_tokens for one in of_prompts),
            cached_prefix_tokens=sum(one.cached_prefix_tokens for one in of_prompts),
            output_tokens=sum(one.output_tokens for one in timings) + finished.num_untold_tokens,
            accepted_tokens=sum(one.accepted_tokens for one in timings),
            rejected_tokens=sum(one.rejected_tokens for one in timings),
            reasoning_tokens=sum(one.reasoning_tokens for one in timings),
        )
