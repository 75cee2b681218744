"""What an Open asks for, settled within the limits of the verifier: pure.

This module must never choose anything at random; the seed is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from shared.errors import PromptTooLong, RequestRefused
from shared.protocol.grammar import Grammar
from shared.protocol.messages import (
    MAX_STOP_BYTES,
    PLAIN_OUTPUT,
    AcceptanceMode,
    Open,
    Opened,
    OutputFormat,
    Resume,
)
from shared.protocol.token_ids import pack_token_ids
from shared.speculation.logit_processors import NO_PROCESSORS, LogitProcessors
from shared.speculation.model_defaults import ModelDefaults, completed
from shared.speculation.sampling import SamplingParameters, filled_in
from verifier.streams.stream_logprobs import check_prompt_logprobs
from verifier.target.processing import Processing


class ServiceLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one device may ask for."""

    context_tokens: int
    max_prompt_tokens: int
    max_tokens: int
    max_streams_per_device: int
    grace_seconds: float  # for a board to come back to its streams; 0: they end with it

    def check_prompt(self, num_tokens: int, field: str) -> None:
        """A prompt of `num_tokens` fits, with one token of output.

        Raises:
            PromptTooLong: it does not; the sentence names the limit.
        """
        most, setting = min(
            (self.context_tokens - 1, "target.context_tokens - 1"),
            (self.max_prompt_tokens, "limits.max_prompt_tokens"),
        )
        if num_tokens > most:
            sentence = f"prompt of {num_tokens} tokens exceeds {most} ({setting})"
            raise PromptTooLong(sentence, field, num_tokens, most)


def stream_request(
    message: Open,
    prompt_ids: tuple[int, ...],
    *,
    limits: ServiceLimits,
    seed: int,
    end_ids: frozenset[int],
    draft_context_tokens: int,
    vocab_size: int,
    automatic_mode: AcceptanceMode,
    model_defaults: ModelDefaults,
    output_format: OutputFormat = PLAIN_OUTPUT,
    grammar: Grammar | None = None,
) -> StreamRequest:
    """The request of a new stream; `seed` and the last two where the message leaves them open.

    `prompt_ids` may be the beginning of a prompt whose length the message tells.

    Raises:
        RequestRefused: the prompt does not fit, a stop string is too long, or a processor names a
            token that the target does not have, or forbids an end that a grammar asks for.
    """
    check_processors(message.processors, vocab_size)
    if message.grammar is not None and message.processors.forbids_end:
        sentence = "min_tokens and ignore_eos: the grammar says where the text ends"
        raise RequestRefused(sentence, message.grammar.field)
    longest_stop = max((len(stop.encode()) for stop in message.stop), default=0)
    if longest_stop > MAX_STOP_BYTES:
        raise RequestRefused(
            f"stop string of {longest_stop} bytes exceeds {MAX_STOP_BYTES}", "stop"
        )
    field = "messages" if message.messages else "prompt"
    if not prompt_ids:
        raise RequestRefused("the prompt is empty", field)
    num_prompt = max(message.num_prompt_tokens, len(prompt_ids))
    limits.check_prompt(num_prompt, field)
    if message.num_prompt_logprobs is not None:
        check_prompt_logprobs(num_prompt, message.num_prompt_logprobs)
    room = limits.context_tokens - num_prompt
    sampling = filled_in(message.sampling, message.left_open, model_defaults.sampling)
    wanted = min(message.max_tokens or limits.max_tokens, limits.max_tokens)
    return StreamRequest(
        prompt_ids=prompt_ids,
        sampling=sampling,
        mode=_acceptance_mode(message, sampling, automatic_mode),
        seed=message.seed if message.seed is not None else seed,
        max_output_tokens=min(wanted, room),
        ends_at_context=room < wanted,
        end_ids=end_ids,
        draft_length=message.draft_length,
        draft_context_tokens=draft_context_tokens,
        stop=message.stop,
        processors=completed(
            message.processors, message.processors_left_open, model_defaults.processors
        ),
        num_logprobs=message.num_logprobs,
        num_prompt_logprobs=message.num_prompt_logprobs,
        grammar=message.grammar or grammar,
        output_format=output_format,
    )


def check_processors(processors: LogitProcessors, vocab_size: int) -> None:
    """Every token that they name is one of the target's, and biased once.

    Raises:
        RequestRefused: one is not; the field is the processor.
    """
    biased = [token_id for token_id, _ in processors.logit_bias]
    for field, token_ids in (
        ("logit_bias", biased),
        ("stop_token_ids", processors.stop_token_ids),
    ):
        for token_id in token_ids:
            if token_id >= vocab_size:
                sentence = f"{field} names token {token_id}, the target has {vocab_size}"
                raise RequestRefused(sentence, field)
    if len(set(biased)) < len(biased):
        raise RequestRefused("logit_bias names a token twice", "logit_bias")


def opened_message(
    message: Open | Resume, request: StreamRequest, cached_prefix_tokens: int = 0
) -> Opened:
    """The answer to an Open; `cached_prefix_tokens` where the stream has started before."""
    is_told = isinstance(message, Open) and bool(message.prompt)
    return Opened(
        channel=message.channel,
        prompt=b"" if is_told else pack_token_ids(request.prompt_ids),
        seed=request.seed,
        acceptance_mode=request.mode,
        cached_prefix_tokens=cached_prefix_tokens,
        sampling=request.sampling,
        processors=request.processors,
        num_logprobs=request.num_logprobs,
        num_prompt_logprobs=request.num_prompt_logprobs,
        output_format=request.output_format,
        grammar=_told_grammar(message, request),
    )


def _told_grammar(message: Open | Resume, request: StreamRequest) -> Grammar | None:
    """That there is one; its text where it was made here, for the agent to open it again."""
    grammar = request.grammar
    if grammar is None or (isinstance(message, Open) and message.must_call):
        return grammar
    return msgspec.structs.replace(grammar, text="")


def resumed_message(message: Resume, request: StreamRequest, cached_prefix_tokens: int) -> Opened:
    """The answer to a Resume: it tells the agent what it had asked for."""
    return msgspec.structs.replace(
        opened_message(message, request, cached_prefix_tokens),
        stop=request.stop,
        max_tokens=None if request.ends_at_context else request.max_output_tokens,
        draft_length=request.draft_length,
        grammar=request.grammar,
    )


def _acceptance_mode(
    message: Open, sampling: SamplingParameters, automatic_mode: AcceptanceMode
) -> AcceptanceMode:
    """Greedy needs no rows; a seed asks for text that does not depend on the board."""
    if sampling.is_greedy:
        return "coupled"
    if message.acceptance_mode is not None:
        return message.acceptance_mode
    return "coupled" if message.seed is not None else automatic_mode


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """What an Open asked for, settled: everything that never changes in a stream."""

    prompt_ids: tuple[int, ...]
    sampling: SamplingParameters
    mode: AcceptanceMode
    seed: int
    max_output_tokens: int  # what max_tokens and the context leave room for
    ends_at_context: bool  # max_output_tokens is the context's limit, not the request's
    end_ids: frozenset[int]
    draft_length: int | None  # None: the policy decides; 0: no speculation
    draft_context_tokens: int  # of the board's model; a path never reaches beyond
    stop: tuple[str, ...] = ()
    processors: LogitProcessors = NO_PROCESSORS
    num_logprobs: int | None = None  # of other tokens that are told with each; None: none at all
    num_prompt_logprobs: int | None = None  # likewise with each token of the prompt
    grammar: Grammar | None = None  # None: any text
    output_format: OutputFormat = PLAIN_OUTPUT

    @property
    def processing(self) -> Processing | None:
        """How its rows are processed; None where they are sampled as they are."""
        if not self.processors.changes_logits:
            return None
        return Processing.of(self.processors, self.end_ids)
