"""Streams made from what boards ask for: tokenized in a thread, checked, numbered."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from functools import partial

from shared.errors import RequestRefused
from shared.protocol.grammar import Grammar
from shared.protocol.messages import (
    MAX_63_BITS,
    PLAIN_OUTPUT,
    AcceptanceMode,
    Open,
    OutputFormat,
)
from shared.protocol.text import ByteAssembler
from shared.protocol.token_ids import unpack_token_list
from shared.speculation.model_defaults import ModelDefaults
from verifier.chat_template.forced_call import forced_call, forced_format
from verifier.chat_template.output_family import opening_of
from verifier.chat_template.template_values import read_tools
from verifier.engine.device import Device
from verifier.grammar.grammars import Grammars
from verifier.streams.estimates import StreamEstimates
from verifier.streams.stream import Stream
from verifier.streams.stream_request import ServiceLimits, StreamRequest, stream_request
from verifier.target.target import Tokenizer
from verifier.target.token_masks import StreamGrammar

# How an answer is written, and what it must be where it must be a call.
_Form = tuple[OutputFormat, Grammar | None]


class NewStreams:
    """Makes the streams of one verifier; the service opens them."""

    def __init__(
        self,
        vocab_size: int,
        automatic_mode: Callable[[Device], AcceptanceMode],
        seeds: random.Random,
        grammars: tuple[Grammars, Callable[[], None]],
    ) -> None:
        """`grammars`, and what to call on the event loop when that of a stream is ready."""
        self._vocab_size = vocab_size
        self._automatic_mode = automatic_mode
        self._seeds = seeds
        self._grammars, self._wake = grammars
        # What Python computes itself keeps rounds from the interpreter: one piece at a time of all.
        self._computing = asyncio.Lock()
        self._next_number = 1

    async def make_from(
        self,
        device: Device,
        message: Open,
        committed: tuple[int, ...],
        tokenizer: Tokenizer,
        limits: ServiceLimits,
        model_defaults: ModelDefaults,
    ) -> Stream:
        """The stream of a whole Open, behind the tokens that its board has.

        Where that may take long it is done in a thread. How long is up to the client: stop strings
        make an automaton, grammars a parser, tools of which one must be called a grammar, a
        repetition penalty counts the prompt, and every committed token is read again. Raises as
        `make_arriving`, `token_ids` and `commit_again`, and RequestRefused for a grammar.
        """
        prompt_ids = await self._prompt_ids(device, message, tokenizer)
        form: _Form = (_output_format(message, prompt_ids, tokenizer), None)
        if message.must_call and not message.prompt:
            form_of_call = partial(_form_of_call, form[0], tokenizer)
            form = await device.in_thread(form_of_call, message, self._computing)
        request = self._request(
            device, message, prompt_ids, tokenizer, limits, model_defaults, form
        )
        grammar = None
        if request.grammar is not None:  # read in a process: no other device waits for it here
            wake = partial(_wake_from_a_thread, asyncio.get_running_loop(), self._wake)
            begin_grammar = partial(self._begin_grammar, request.grammar, wake)
            grammar = await device.in_thread(begin_grammar, committed)
        number, estimates = self._next_numbered(device)

        def begin(committed: tuple[int, ...]) -> Stream:
            stream = _stream(number, device, request, estimates, tokenizer)
            stream.grammar = grammar
            commit_again(stream, committed)
            return stream

        counts_prompt = request.processors.repetition_penalty != 1
        if request.stop or committed or counts_prompt:
            return await device.in_thread(begin, committed, self._computing)
        return begin(committed)

    def _begin_grammar(
        self, grammar: Grammar, wake: Callable[[], None], committed: tuple[int, ...]
    ) -> StreamGrammar:
        begun = self._grammars.begin(grammar, wake)
        if not begun.begin_behind(committed):
            sentence = f"the committed tokens are not as {grammar.field} says"
            raise RequestRefused(sentence, "committed")
        return begun

    def make_arriving(
        self,
        device: Device,
        message: Open,
        prompt_ids: tuple[int, ...],
        tokenizer: Tokenizer,
        limits: ServiceLimits,
        model_defaults: ModelDefaults,
    ) -> Stream:
        """The stream of an Open without stop strings whose prompt begins with these ids.

        Raises:
            RequestRefused: the prompt does not fit.
        """
        request = self._request(device, message, prompt_ids, tokenizer, limits, model_defaults)
        number, estimates = self._next_numbered(device)
        stream = _stream(number, device, request, estimates, tokenizer)
        stream.is_arriving = message.goes_on
        stream.num_missing_tokens = max(message.num_prompt_tokens - len(prompt_ids), 0)
        return stream

    async def _prompt_ids(
        self, device: Device, message: Open, tokenizer: Tokenizer
    ) -> tuple[int, ...]:
        if message.prompt:
            return self.token_ids(message.prompt)
        if message.messages:
            encode_chat = partial(
                tokenizer.encode_chat, options=message.template, tools=message.tools
            )
            return tuple(await device.in_thread(encode_chat, message.messages))
        return tuple(await device.in_thread(tokenizer.encode_text, message.text))

    def _request(
        self,
        device: Device,
        message: Open,
        prompt_ids: tuple[int, ...],
        tokenizer: Tokenizer,
        limits: ServiceLimits,
        model_defaults: ModelDefaults,
        form: _Form = (PLAIN_OUTPUT, None),
    ) -> StreamRequest:
        output_format, grammar = form
        return stream_request(
            message,
            prompt_ids,
            limits=limits,
            seed=self._seeds.randint(0, MAX_63_BITS),
            end_ids=tokenizer.end_ids,
            draft_context_tokens=device.draft_context_tokens,
            vocab_size=self._vocab_size,
            automatic_mode=self._automatic_mode(device),
            model_defaults=model_defaults,
            output_format=output_format,
            grammar=grammar,
        )

    def _next_numbered(self, device: Device) -> tuple[int, StreamEstimates]:
        number, self._next_number = self._next_number, self._next_number + 1
        return number, device.estimates.open_stream()

    def token_ids(self, packed: bytes) -> tuple[int, ...]:
        """The ids of a message.

        Raises:
            RemoteProtocolError: they are malformed, or outside the vocabulary.
        """
        return tuple(unpack_token_list(packed, self._vocab_size))


def _marks(tokenizer: Tokenizer) -> dict[str, int]:
    """The ids of control tokens, by their names."""
    token_bytes = tokenizer.token_bytes
    return {token_bytes[i].decode(errors="replace"): i for i in tokenizer.special_ids}


def _output_format(
    message: Open, prompt_ids: tuple[int, ...], tokenizer: Tokenizer
) -> OutputFormat:
    """How the answer to a chat is written; a plain prompt has no form."""
    if message.prompt or not message.messages:
        return PLAIN_OUTPUT
    target = tokenizer.output_format
    opening = opening_of(
        target.reasoning,
        message.messages,
        prompt_ids,
        tokenizer.token_bytes,
        is_continued=message.template.continue_final_message,
    )
    return OutputFormat(target.tools if message.tools else "", target.reasoning, opening)


def _form_of_call(output_format: OutputFormat, tokenizer: Tokenizer, message: Open) -> _Form:
    """Takes a while for many tools, and raises RequestRefused."""
    if message.grammar is not None:
        sentence = f"tool_choice asks for a call and {message.grammar.field} for a form"
        raise RequestRefused(f"{sentence}: leave one of them out", "tool_choice")
    tools, marks = read_tools(message.tools), _marks(tokenizer)
    output_format = forced_format(output_format, tools, message.must_call, marks)
    return output_format, forced_call(output_format, tools, message.must_call, marks)


def _stream(
    number: int,
    device: Device,
    request: StreamRequest,
    estimates: StreamEstimates,
    tokenizer: Tokenizer,
) -> Stream:
    text = ByteAssembler(tokenizer.token_bytes, tokenizer.special_ids, request.stop)
    return Stream(number, device.name, request, text, device.estimates, estimates)


def _wake_from_a_thread(loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: the verifier has ended
        loop.call_soon_threadsafe(wake)


def commit_again(stream: Stream, committed: tuple[int, ...]) -> None:
    """Go on behind these tokens too, which were committed before.

    Raises:
        RequestRefused: they go beyond the end of the stream.
    """
    num_committed = stream.position + len(committed)
    if stream.finish is None:
        stream.take_up_again(committed)
    if stream.position < num_committed:
        raise RequestRefused(
            f"{num_committed} committed tokens go beyond the end of the stream "
            f"at {stream.position}",
            "committed",
        )
