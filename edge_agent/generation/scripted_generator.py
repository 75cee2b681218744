"""A generator that plays a script: what clients meet can be tested without a verifier."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import msgspec

from edge_agent.generation.generation import (
    Finished,
    GenerationRequest,
    PromptPiece,
    TextPiece,
    Timings,
)
from edge_agent.output_parsing.control_marks import with_marks
from edge_agent.output_parsing.output_parser import OutputParser
from edge_agent.output_parsing.said import Said
from shared.errors import GoodspeedError, TooManyStreams
from shared.protocol.messages import PLAIN_OUTPUT, FinishReason, OutputFormat

Step = TextPiece | asyncio.Event | GoodspeedError  # put out, wait for, raise

_SECONDS_TO_FIRST_TOKEN = 0.2
_SECONDS_PER_TOKEN = 0.025
_TOKENS_PER_ROUND = 4
_WIRE_BYTES_PER_TOKEN = 12
_CONTEXT_TOKENS = 4096
_CHOSEN_SEED = 7  # when the request has none


class ScriptedGenerator:
    """Plays the same steps for every request, each piece one token; honours stop and max_tokens.

    Its timings are functions of the script, not of a clock. `seconds_per_piece` is for a person
    that watches; tests make it wait for events.
    """

    def __init__(
        self,
        script: Sequence[Step],
        *,
        target_model: str | None = "scripted-target",
        seconds_per_piece: float = 0.0,
        max_streams: int | None = None,
        output_format: OutputFormat = PLAIN_OUTPUT,
    ) -> None:
        self.script = tuple(script)
        self.output_format = output_format  # of the script; names of marks in it are tokens
        self.target_model = target_model
        self.max_streams = max_streams
        self.context_tokens: int | None = None if target_model is None else _CONTEXT_TOKENS
        self.most_running = 0
        self.requests: list[GenerationRequest] = []
        self.resumed: list[int] = []
        self.num_running = 0
        self.was_asked = asyncio.Event()
        self.was_cancelled = asyncio.Event()  # a generation was closed before its end
        self._seconds_per_piece = seconds_per_piece

    def resume(self, stream_id: int) -> AsyncIterator[TextPiece | Finished]:
        """The same steps again: as if an agent before this one had begun them."""
        self.resumed.append(stream_id)
        return self.generate(GenerationRequest(stream_id=stream_id))

    async def generate(self, request: GenerationRequest) -> AsyncIterator[TextPiece | Finished]:
        self.requests.append(request)
        self.was_asked.set()
        if self.max_streams is not None and self.num_running >= self.max_streams:
            raise TooManyStreams(f"the device has {self.max_streams} streams already")
        self.num_running += 1
        self.most_running = max(self.most_running, self.num_running)
        pieces: list[TextPiece] = []
        parser = OutputParser(self.output_format, request.reading, request.tools)
        num_thoughts = 0
        reason: FinishReason = "end"
        if request.tells_prompt:
            yield PromptPiece(request.text, "target")
        try:
            for step in self.script:
                if len(pieces) == request.max_tokens:
                    reason = "length"
                    break
                if isinstance(step, asyncio.Event):
                    await step.wait()
                    continue
                if isinstance(step, GoodspeedError):
                    raise step
                await asyncio.sleep(self._seconds_per_piece)
                kept = _before_stop("".join(piece.text for piece in pieces), step, request.stop)
                if kept.text:
                    pieces.append(kept)
                    was_reasoning = parser.is_reasoning
                    for said in parser.feed(self._marked(kept.text)):
                        yield _said(kept, said)
                    num_thoughts += was_reasoning or parser.is_reasoning
                if kept != step:
                    reason = "stop"
                    break
            for said in parser.close():
                yield _said(TextPiece("", "target"), said)
            yield _finished(request, pieces, reason, num_thoughts)
        except (asyncio.CancelledError, GeneratorExit):
            self.was_cancelled.set()
            raise
        finally:
            self.num_running -= 1

    def _marked(self, text: str) -> str:
        return text if self.output_format == PLAIN_OUTPUT else with_marks(text)


def _said(piece: TextPiece, said: Said) -> TextPiece:
    return msgspec.structs.replace(piece, text=said.text, part=said.part)


def _before_stop(text: str, piece: TextPiece, stop: tuple[str, ...]) -> TextPiece:
    """The part of the piece before a stop string; what is out already is not taken back."""
    whole = text + piece.text
    ends = [at for string in stop if (at := whole.find(string)) >= 0]
    kept = whole[len(text) : min(ends)] if ends else piece.text
    return msgspec.structs.replace(piece, text=kept)


def _finished(
    request: GenerationRequest,
    pieces: Sequence[TextPiece],
    reason: FinishReason,
    num_thoughts: int,
) -> Finished:
    num_accepted = sum(piece.origin == "accepted" for piece in pieces)
    num_rounds = -(-len(pieces) // _TOKENS_PER_ROUND)
    prompt = request.text + " ".join(message.content for message in request.messages)
    return Finished(
        reason=reason,
        timings=Timings(
            prompt_tokens=prompt.count(" ") + bool(prompt),  # of megabytes, too, at once
            cached_prefix_tokens=0,
            output_tokens=len(pieces),
            drafted_tokens=num_accepted + num_rounds,
            accepted_tokens=num_accepted,
            rejected_tokens=num_rounds,
            num_verdicts=num_rounds,
            num_drafting_verdicts=num_rounds,
            seconds_to_first_token=_SECONDS_TO_FIRST_TOKEN,
            total_seconds=_SECONDS_TO_FIRST_TOKEN + _SECONDS_PER_TOKEN * max(len(pieces) - 1, 0),
            wire_bytes=_WIRE_BYTES_PER_TOKEN * len(pieces),
            survived_tokens=num_accepted,
            rejections=num_rounds,
            reasoning_tokens=num_thoughts,
        ),
        seed=_CHOSEN_SEED if request.seed is None else request.seed,
        acceptance_mode=request.acceptance_mode or "rejection",
    )
