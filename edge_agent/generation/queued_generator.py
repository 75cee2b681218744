"""A generator before another one: as many generations at once as the verifier takes, in turn.

This module must never look at a text.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import cast

from edge_agent.generation.generation import (
    Events,
    Finished,
    GenerationRequest,
    Generator,
    TextPiece,
)
from edge_agent.generation.waiting_line import LineLimits, Place, WaitingLine
from shared.errors import TooManyStreams


class QueuedGenerator:
    """What the clients of an agent share; closing an iterator that waits leaves the line."""

    def __init__(self, generator: Generator, limits: LineLimits) -> None:
        self._generator = generator
        self._seconds = limits.seconds
        self._line = WaitingLine(lambda: generator.max_streams, limits)

    @property
    def target_model(self) -> str | None:
        """The target's name, None while there is no verifier."""
        return self._generator.target_model

    @property
    def max_streams(self) -> int | None:
        """How many run at once."""
        return self._generator.max_streams

    @property
    def context_tokens(self) -> int | None:
        """Of a prompt and its answer."""
        return self._generator.context_tokens

    @property
    def num_waiting(self) -> int:
        """How many wait for a place."""
        return self._line.num_waiting

    def generate(self, request: GenerationRequest) -> AsyncIterator[TextPiece | Finished]:
        """As the other's, once there is a place; see `Generator`.

        Raises:
            TooManyStreams: the line is too long, or it took too long.
        """
        num_characters = len(request.text) + len(request.prompt_ids)
        num_characters += sum(len(turn.content) for turn in request.messages)
        return self._events(
            lambda: self._generator.generate(request), request.stream_id, num_characters
        )

    def resume(self, stream_id: int) -> AsyncIterator[TextPiece | Finished]:
        """As the other's, once there is a place."""
        return self._events(lambda: self._generator.resume(stream_id), stream_id, 0)

    def place_of(self, stream_id: int) -> Place | None:
        """Where in the line the generation of this name stands; None: it does not wait."""
        return self._line.place_of(stream_id)

    async def _events(
        self,
        begin: Callable[[], AsyncIterator[TextPiece | Finished]],
        name: int | None,
        num_characters: int,
    ) -> AsyncIterator[TextPiece | Finished]:
        loop = asyncio.get_running_loop()
        gives_up_at = loop.time() + self._seconds
        is_back = False
        while True:
            entered_at = await self._line.enter(name, num_characters, gives_up_at, is_back=is_back)
            was_refused = has_begun = False
            try:
                async with aclosing(cast(Events, begin())) as events:
                    async for event in events:
                        has_begun = True
                        yield event
                return
            except TooManyStreams:
                # Streams of a link before this one count until the verifier has given them up.
                was_refused = is_back = True
                if has_begun or loop.time() >= gives_up_at:
                    raise
            finally:
                self._line.leave(entered_at, was_refused=was_refused)
