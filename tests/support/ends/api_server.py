"""The agent's API on a loopback port, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from edge_agent.api.app import build_app, build_runner, listen
from edge_agent.generation.generation import Generator, TextPiece

HELLO = (
    TextPiece("Hello", "target"),
    TextPiece(" wide", "accepted"),
    TextPiece(" world", "target"),
)


@asynccontextmanager
async def serving(generator: Generator, **options: Any) -> AsyncIterator[str]:
    """Serve with `build_app(generator, **options)`; the value is `http://127.0.0.1:port`."""
    runner = build_runner(build_app(generator, **{"api_token": None, **options}))
    await runner.setup()
    listener = await listen(runner, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    finally:
        listener.close()
        await runner.cleanup()
