"""The generations behind one answer: mostly one, or several choices at once, in one stream.

This module must never know a word of a dialect.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing

import msgspec

from edge_agent.api.requests.client_request import ClientRequest
from edge_agent.generation.generation import (
    Events,
    Finished,
    GenerationRequest,
    Generator,
    PromptPiece,
    TextPiece,
    new_stream_id,
    start_generation,
)
from shared.errors import LocalProtocolError
from shared.protocol.logprobs import LEAST_LOGPROB

# Of one request; more wait, so that one client does not fill the line of all.
MAX_AT_ONCE = 8
_OF_TOKENS = ("token_ids", "logprobs", "end_logprobs")
_QUEUED_EVENTS = 64  # of all choices, until the client reads them


class ChoicePiece(TextPiece, frozen=True, kw_only=True):
    """What came of one of several choices: a piece of its text, or its end."""

    index: int
    event: TextPiece | Finished


class AllFinished(Finished, frozen=True, kw_only=True):
    """The last event of several choices; the fields of `Finished` are those of the first one."""

    choices: tuple[tuple[tuple[TextPiece, ...], Finished], ...]  # pieces of each, and its end
    num_untold_tokens: int = 0  # of choices that were likely less


def start_answer(
    generator: Generator, asked: ClientRequest, stream_id: int
) -> AbstractAsyncContextManager[Events]:
    """The events of what is asked for; of several choices they are ChoicePieces and AllFinished.

    The first generation has the name `stream_id`.
    """
    first = msgspec.structs.replace(asked.generation, stream_id=stream_id)
    if not asked.others and not asked.writes_nothing:
        return start_generation(generator, first)
    others = [msgspec.structs.replace(one, stream_id=new_stream_id()) for one in asked.others]
    if not others:
        return aclosing(_generation(generator, first, asked.writes_nothing))
    events = _several(generator, [first, *others], asked)
    return aclosing(events if asked.num_told == asked.num_choices else _best(events, asked))


async def _several(
    generator: Generator, requests: Sequence[GenerationRequest], asked: ClientRequest
) -> AsyncGenerator[TextPiece | Finished, None]:
    """All of them side by side; the first that fails ends all."""
    prompts = [_Prompt() for _ in range(0, len(requests), asked.num_choices)]
    queue: asyncio.Queue[tuple[int, TextPiece | Finished | Exception]] = asyncio.Queue(
        _QUEUED_EVENTS
    )
    places = asyncio.Semaphore(MAX_AT_ONCE)

    async def follow(index: int, request: GenerationRequest) -> None:
        prompt = prompts[index // asked.num_choices]
        try:
            if index % asked.num_choices and request.num_prompt_logprobs is not None:
                request = _without_prompt(request)
                for piece in await prompt.told():
                    await queue.put((index, piece))
            generation = _generation(generator, request, asked.writes_nothing)
            async with places, aclosing(generation) as events:
                async for event in events:
                    prompt.note(event)
                    await queue.put((index, event))
                    if isinstance(event, Finished):
                        return
            raise LocalProtocolError("the generation ended without a finish")
        except Exception as error:  # noqa: BLE001 - whatever it is, the answer raises it
            await queue.put((index, error))

    tasks = [
        asyncio.create_task(follow(i, request), name=f"choice {i}")
        for i, request in enumerate(requests)
    ]
    pieces: list[list[TextPiece]] = [[] for _ in requests]
    ended: dict[int, Finished] = {}
    try:
        while len(ended) < len(requests):
            index, event = await queue.get()
            if isinstance(event, Exception):
                raise event
            if isinstance(event, Finished):
                ended[index] = event
            else:
                pieces[index].append(event)
            yield ChoicePiece("", "target", index=index, event=event)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    choices = tuple((tuple(some), ended[i]) for i, some in enumerate(pieces))
    first = {name: getattr(ended[0], name) for name in Finished.__struct_fields__}
    yield AllFinished(**first, choices=choices)


class _Prompt:
    """One that several choices have: its log-probabilities are made for the first of them alone.

    The others begin behind that, when the verifier has all of it in its cache.
    """

    def __init__(self) -> None:
        self._pieces: list[TextPiece] = []
        self._is_told = asyncio.Event()

    async def told(self) -> list[TextPiece]:
        """The prompt, once it is there; nothing where it is never told."""
        await self._is_told.wait()
        return self._pieces

    def note(self, event: TextPiece | Finished) -> None:
        """The next event of a choice that has the prompt told."""
        if isinstance(event, PromptPiece) and not self._is_told.is_set():
            self._pieces.append(event)
        self._is_told.set()


def _without_prompt(request: GenerationRequest) -> GenerationRequest:
    return msgspec.structs.replace(request, tells_prompt=False, num_prompt_logprobs=None)


async def _best(
    events: AsyncGenerator[TextPiece | Finished, None], asked: ClientRequest
) -> AsyncGenerator[TextPiece | Finished, None]:
    """Of each prompt's choices those with the highest mean log-probability of a token."""
    async with aclosing(events):
        async for event in events:
            if isinstance(event, AllFinished):
                yield _likeliest(event, asked)


def _likeliest(every: AllFinished, asked: ClientRequest) -> AllFinished:
    told, untold = [], []
    for start in range(0, len(every.choices), asked.num_choices):
        ranked = sorted(
            every.choices[start : start + asked.num_choices],
            key=lambda choice: _mean_logprob(choice[1]),
            reverse=True,
        )
        told += ranked[: asked.num_told]
        untold += ranked[asked.num_told :]
    num_untold_tokens = sum([finished.timings.output_tokens for _, finished in untold])
    if asked.hides_logprobs:
        told = [_without_logprobs(*choice) for choice in told]
    first = {name: getattr(told[0][1], name) for name in Finished.__struct_fields__}
    return AllFinished(**first, choices=tuple(told), num_untold_tokens=num_untold_tokens)


def _mean_logprob(finished: Finished) -> float:
    """What was not kept, for it was committed elsewhere, counts as unlikely."""
    tokens = (*finished.logprobs, *finished.end_logprobs)
    logprobs = [LEAST_LOGPROB if t.logprob is None else t.logprob for t in tokens]
    return sum(logprobs) / len(logprobs) if logprobs else LEAST_LOGPROB


def _without_logprobs(
    pieces: tuple[TextPiece, ...], finished: Finished
) -> tuple[tuple[TextPiece, ...], Finished]:
    bare = tuple(
        piece if isinstance(piece, PromptPiece) else msgspec.structs.replace(piece, logprobs=())
        for piece in pieces
    )
    return bare, msgspec.structs.replace(finished, logprobs=(), end_logprobs=())


async def _generation(
    generator: Generator, request: GenerationRequest, writes_nothing: bool
) -> AsyncGenerator[TextPiece | Finished, None]:
    """One of them; where nothing is to be written, the prompt is read and its one token dropped."""
    async with start_generation(generator, request) as events:
        async for event in events:
            if not writes_nothing or isinstance(event, PromptPiece):
                yield event
            elif isinstance(event, Finished):
                timings = msgspec.structs.replace(event.timings, output_tokens=0)
                nothing: dict[str, tuple[()]] = dict.fromkeys(_OF_TOKENS, ())
                yield msgspec.structs.replace(event, reason="length", timings=timings, **nothing)
