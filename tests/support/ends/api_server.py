"""The agent's API on a loopback port, for tests."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.api.access import Access
from edge_agent.api.app import build_app, serve
from edge_agent.generation.generation import Generator, TextPiece
from shared.daemon.http_server import listen
from shared.errors import VerifierAway
from shared.protocol.token_question import TokenQuestion

HELLO = (
    TextPiece("Hello", "target"),
    TextPiece(" wide", "accepted"),
    TextPiece(" world", "target"),
)


class ByteTokenizer:
    """A byte is a token, behind 256 as a beginning."""

    token_bytes: Sequence[bytes] = (*(bytes([i]) for i in range(256)), b"<s>")

    async def token_ids(self, question: TokenQuestion) -> NDArray[np.uint32]:
        if question.text == "away":
            raise VerifierAway("the verifier is away")
        text = question.text + "".join(turn.content for turn in question.messages)
        return np.array([256] * question.adds_special + [*text.encode()], dtype=np.uint32)


@asynccontextmanager
async def serving(generator: Generator, **options: Any) -> AsyncIterator[str]:
    """Serve with these options of Access and `build_app`; the value is `http://127.0.0.1:port`."""
    of_access = {field.name for field in dataclasses.fields(Access)} & options.keys()
    access = Access(**{name: options.pop(name) for name in of_access})
    sockets = listen("127.0.0.1", 0)
    server = await serve(build_app(generator, access, **options), sockets)
    try:
        yield f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    finally:
        await server.stop()
