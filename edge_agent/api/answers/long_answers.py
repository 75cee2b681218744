"""Answers that take long to write, for they tell log-probabilities: made in a thread.

Those of a prompt of 20,000 tokens take 0.1 s, and the event loop has other clients meanwhile. What
else an answer says takes no time that counts. This module must never know a word of a dialect.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping, Sequence

import msgspec
from aiohttp import web

from edge_agent.api.answers.answer_shape import AnswerShape
from edge_agent.api.answers.choices import AllFinished, ChoicePiece
from edge_agent.api.answers.spoken_answer import spoken
from edge_agent.generation.generation import Finished, PromptPiece, TextPiece


async def whole_response(
    shape: AnswerShape,
    pieces: Sequence[TextPiece],
    finished: Finished,
    headers: Mapping[str, str],
) -> web.Response:
    """The answer that is not streamed."""
    told = finished.choices[0][0] if isinstance(finished, AllFinished) else pieces
    if not finished.logprobs and not any(_is_scored(piece) for piece in told):
        return web.json_response(shape.whole(spoken(pieces), finished), headers=headers)

    def written() -> io.BytesIO:
        return io.BytesIO(msgspec.json.encode(shape.whole(spoken(pieces), finished)))

    body = await asyncio.to_thread(written)
    # From a file aiohttp sends it piece by piece.
    return web.Response(
        body=body, content_type="application/json", charset="utf-8", headers=headers
    )


async def piece_lines(shape: AnswerShape, piece: TextPiece) -> bytes:
    """The next piece of a stream."""
    event = piece.event if isinstance(piece, ChoicePiece) else piece
    if _is_scored(event):
        return await asyncio.to_thread(shape.piece, piece)
    return shape.piece(piece)


def _is_scored(event: TextPiece | Finished) -> bool:
    return isinstance(event, PromptPiece) and bool(event.logprobs)
