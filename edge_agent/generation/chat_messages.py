"""What the chat socket says: JSON objects with a `type`, in text messages.

A client sends `{"type": "generate", …}` with the fields of an OpenAI chat request, or
`{"type": "cancel"}`. Every accepted `generate` is answered by one `started`, any number of `text`,
and then by exactly one `finished`, or one `error` whose `is_generating` is false.

A client whose socket broke in the middle of an answer opens another one within a minute and sends
`{"type": "resume", "id": …, "num_characters": …}` with the id of `started` and the number of
characters (Unicode code points) that it has of the answer: it gets the rest, as if nothing had
happened. Closing a socket properly, with a close frame, ends the answer; but for code 1001, with
which browsers leave a page that they may be about to load again.

While nothing comes, `waiting` says why, as often as that changes. Thoughts and calls are told apart
from text where `generate` has `reasoning_format` or `tools`.
"""

from __future__ import annotations

import msgspec

from edge_agent.generation.generation import OwnReason, TextOrigin, Timings
from edge_agent.output_parsing.said import Part
from shared.protocol.messages import AcceptanceMode, FinishReason

# 128,000 tokens of English take a third of it.
MAX_CLIENT_MESSAGE_BYTES = 2 << 20


class Started(msgspec.Struct, frozen=True, tag_field="type", tag="started"):
    """An answer is being generated; a client that knows its id may read it."""

    id: str  # a number of 63 bits, too large for JavaScript's own


class Text(msgspec.Struct, frozen=True, tag_field="type", tag="text", omit_defaults=True):
    """A piece of the answer, as `edge_agent.generation.generation.TextPiece` explains it.

    `so_far` comes with the last piece of a round, but not with every one: the newest counts.
    """

    text: str
    origin: TextOrigin
    reason: OwnReason | None = None
    so_far: Timings | None = None
    part: Part = "text"


class Waiting(msgspec.Struct, frozen=True, tag_field="type", tag="waiting", omit_defaults=True):
    """Why nothing comes; with nothing in it, nothing is known to be in the way any more."""

    num_ahead: int | None = None  # requests before it in the board's line; None: it is in no line
    seconds: int | None = None  # until it is its turn, as far as can be told
    because: str = ""  # what keeps the board from its verifier's answers, in words


class ChatFinished(msgspec.Struct, frozen=True, tag_field="type", tag="finished"):
    """The end of an answer; one that was cancelled, or goes back to before the agent's restart, has
    no figures.
    """

    reason: FinishReason
    timings: Timings | None = None
    seed: int | None = None
    acceptance_mode: AcceptanceMode | None = None


class ChatError(msgspec.Struct, frozen=True, tag_field="type", tag="error"):
    """A message was refused, or the answer failed; `param` names the field of the request."""

    message: str
    param: str | None = None
    is_generating: bool = False  # an answer goes on all the same
    retry_after_seconds: int | None = None  # when asking again may help, as far as can be told


ChatMessageOut = Started | Text | Waiting | ChatFinished | ChatError
