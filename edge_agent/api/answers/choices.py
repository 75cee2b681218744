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
    TextPiece,
    new_stream_id,
    start_generation,
)
from shared.errors import LocalProtocolError

# Of one request; more wait, so that one client does not fill the line of all.
MAX_AT_ONCE = 8
_QUEUED_EVENTS = 64  # of all choices, until the client reads them


class ChoicePiece(TextPiece, frozen=True, kw_only=True):
    """What came of one of several choices: a piece of its text, or its end."""

    index: int
    event: TextPiece | Finished


class AllFinished(Finished, frozen=True, kw_only=True):
    """The last event of several choices; the fields of `Finished` are those of the first one."""

    choices: tuple[tuple[tuple[TextPiece, ...], Finished], ...]  # pieces of each, and its end


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
    return aclosing(_several(generator, [first, *others], asked.writes_nothing))


async def _several(
    generator: Generator, requests: Sequence[GenerationRequest], writes_nothing: bool
) -> AsyncGenerator[TextPiece | Finished, None]:
    """All of them side by side; the first that fails ends all."""
    queue: asyncio.Queue[tuple[int, TextPiece | Finished | Exception]] = asyncio.Queue(
        _QUEUED_EVENTS
    )
    places = asyncio.Semaphore(MAX_AT_ONCE)

    async def follow(index: int, request: GenerationRequest) -> None:
        try:
            async with places, aclosing(_generation(generator, request, writes_nothing)) as events:
                async for event in events:
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


async def _generation(
    generator: Generator, request: GenerationRequest, writes_nothing: bool
) -> AsyncGenerator[TextPiece | Finished, None]:
    """One of them; where nothing is to be written, the prompt is read and its one token dropped."""
    async with start_generation(generator, request) as events:
        async for event in events:
            if not writes_nothing:
                yield event
            elif isinstance(event, Finished):
                timings = msgspec.structs.replace(event.timings, output_tokens=0)
                yield msgspec.structs.replace(
                    event, reason="length", timings=timings, token_ids=(), logprobs=()
                )
