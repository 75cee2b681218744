"""What a client asks of the agent and what it gets: frozen values, and the interface between them.

The HTTP and websocket endpoints know only this module; `Generator` is made real by the link to the
verifier (`edge_agent.generation.agent`) and by scripted ones in tests.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Literal, Protocol, cast

import msgspec

from edge_agent.output_parsing.output_parser import NOTHING_APART, OutputReading
from edge_agent.output_parsing.said import Part
from shared.protocol.grammar import Grammar
from shared.protocol.messages import (
    MAX_63_BITS,
    AcceptanceMode,
    ChatMessage,
    FinishReason,
    TemplateOptions,
)
from shared.speculation.logit_processors import NO_PROCESSORS, LogitProcessors
from shared.speculation.model_defaults import ProcessorField
from shared.speculation.sampling import PLAIN_SAMPLING, SamplingField, SamplingParameters


class GenerationRequest(msgspec.Struct, frozen=True):
    """One generation: a chat turn (`messages`) or a completion (`text`, or its tokens)."""

    messages: tuple[ChatMessage, ...] = ()
    text: str = ""
    prompt_ids: tuple[int, ...] = ()  # when given, neither messages nor text are read
    sampling: SamplingParameters = SamplingParameters()
    seed: int | None = None
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    acceptance_mode: AcceptanceMode | None = None
    draft_length: int | None = None  # None: the policy decides; 0: speculation off
    left_open: tuple[SamplingField, ...] = ()  # of sampling: the target's own defaults hold
    template: TemplateOptions = TemplateOptions()  # how `messages` become a prompt
    processors: LogitProcessors = NO_PROCESSORS
    processors_left_open: tuple[ProcessorField, ...] = ()  # as `left_open`
    num_logprobs: int | None = None  # of other tokens that are told with each; None: none at all
    stream_id: int | None = None  # the name to resume it by, of 63 bits; None: any
    grammar: Grammar | None = None  # what the text must be
    tools: bytes = b""  # that the target may call: a JSON list, in OpenAI's words
    must_call: tuple[str, ...] = ()  # one of these of them, so that the answer is a call
    reading: OutputReading = NOTHING_APART  # what of the answer is told apart
    tells_prompt: bool = False  # in a PromptPiece before all else
    num_prompt_logprobs: int | None = None  # of others beside each of its tokens; None: none at all


TextOrigin = Literal["accepted", "target"]
"""Drafted on this board and accepted, or the target's own."""


OwnReason = Literal["rejection", "bonus", "alone", "forced"]
"""Why the target wrote a token itself: the board's draft had another one there; the whole draft was
accepted, and the same round gave one more; there was no draft for this place in time; or a grammar
leaves nothing else, so that the verifier itself had drafted it."""


class Timings(msgspec.Struct, frozen=True):
    """Counts and times of one generation."""

    prompt_tokens: int
    cached_prefix_tokens: int
    output_tokens: int
    drafted_tokens: int  # draft tokens that were sent
    accepted_tokens: int  # draft tokens that survived
    rejected_tokens: int  # draft tokens that did not: struck by a verdict or dead behind one
    num_verdicts: int
    num_drafting_verdicts: int  # verdicts that checked at least one draft token
    seconds_to_first_token: float
    total_seconds: float
    wire_bytes: int  # of drafts and verdicts: websocket payloads and frame headers
    survived_tokens: int  # draft tokens equal to what was committed there, in time or late
    rejections: int  # draft tokens that were the first of their path to differ
    round_trip_seconds: float | None = None  # board to verifier and back, when the link was made
    reasoning_tokens: int = 0  # output tokens that were thoughts, where they are told apart
    drafts_rest: bool = False  # the verifier wants none: measured faster without, or just measured


class ScoredToken(msgspec.Struct, frozen=True):
    """An output token, and what the target thought of it and of others in its place."""

    token: bytes
    logprob: float | None  # None: it was not kept
    top: tuple[tuple[bytes, float], ...]  # the likeliest tokens, likeliest first


class TextPiece(msgspec.Struct, frozen=True):
    """Text that became final, never empty."""

    text: str
    origin: TextOrigin
    reason: OwnReason | None = None  # of the target's own, where it is known
    so_far: Timings | None = None  # with the last piece of a round: the generation until now
    logprobs: tuple[ScoredToken, ...] = ()  # of the tokens since the last piece, where asked
    part: Part = "text"  # another one only where the request wants it told apart


class PromptPiece(TextPiece, frozen=True, kw_only=True):
    """The prompt, before all that is said; `logprobs` and ids where they are asked for."""

    token_ids: tuple[int, ...] = ()
    top_ids: tuple[tuple[int, ...], ...] = ()  # of the likeliest ones in place of each


class Finished(msgspec.Struct, frozen=True):
    """The last event of a generation."""

    reason: FinishReason
    timings: Timings
    seed: int
    acceptance_mode: AcceptanceMode
    token_ids: tuple[int, ...] = ()  # of the whole output, an end token included
    sampling: SamplingParameters = PLAIN_SAMPLING  # in force: the request's, or the model's own
    processors: LogitProcessors = NO_PROCESSORS  # in force as well
    logprobs: tuple[ScoredToken, ...] = ()  # of all tokens of the text, where asked
    end_logprobs: tuple[ScoredToken, ...] = ()  # of the token that ended it and is none of it


class Generator(Protocol):
    """Generates text with the verifier's target."""

    @property
    def target_model(self) -> str | None:
        """The target's name, None while there is no verifier."""
        ...

    @property
    def max_streams(self) -> int | None:
        """How many generations run at once; None while there is no verifier."""
        ...

    @property
    def context_tokens(self) -> int | None:
        """The most of a prompt and its answer; None while there is no verifier."""
        ...

    def generate(self, request: GenerationRequest) -> AsyncIterator[TextPiece | Finished]:
        """Pieces of text, then one Finished; closing the iterator cancels the generation.

        Raises:
            VerifierAway: there is no verifier now, or it left for too long.
            RequestRefused: the verifier refuses this request; `field` names the part of it.
        """
        ...

    def resume(self, stream_id: int) -> AsyncIterator[TextPiece | Finished]:
        """All events of a generation that this agent knows nothing of, from its first on.

        It was restarted in the middle of it; Finished has the times since then only.

        Raises:
            VerifierAway: there is no verifier for too long.
            RequestRefused: the verifier knows nothing of it either.
        """
        ...


def new_stream_id() -> int:
    """A name that cannot be guessed."""
    return random.SystemRandom().randint(0, MAX_63_BITS)


Events = AsyncGenerator[TextPiece | Finished]


def start_generation(
    generator: Generator, request: GenerationRequest
) -> AbstractAsyncContextManager[Events]:
    """The request's events as an async context; the generator's iterator must have `aclose`."""
    return aclosing(cast(Events, generator.generate(request)))


def resume_generation(generator: Generator, stream_id: int) -> AbstractAsyncContextManager[Events]:
    """All events of a generation from before the agent's restart; else like `start_generation`."""
    return aclosing(cast(Events, generator.resume(stream_id)))
