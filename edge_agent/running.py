"""A generation as a block: leaving it, however, cancels what has not finished."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, aclosing
from typing import cast

from edge_agent.generation import Finished, GenerationRequest, Generator, TextPiece

Events = AsyncGenerator[TextPiece | Finished]


def running(
    generator: Generator, request: GenerationRequest
) -> AbstractAsyncContextManager[Events]:
    """The request's events as an async context; the generator's iterator must have `aclose`."""
    return aclosing(cast(Events, generator.generate(request)))


def resuming(generator: Generator, stream_id: int) -> AbstractAsyncContextManager[Events]:
    """All events of a generation from before the agent's restart; else like `running`."""
    return aclosing(cast(Events, generator.resume(stream_id)))
