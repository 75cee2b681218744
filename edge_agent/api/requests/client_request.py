"""What a client asks for, in whatever dialect: the value between a body and its answer."""

from __future__ import annotations

import msgspec

from edge_agent.generation.generation import GenerationRequest


class ClientRequest(msgspec.Struct, frozen=True):
    """What a client asks for, and how it wants the answer."""

    generation: GenerationRequest
    is_streamed: bool = False
    includes_usage: bool = False  # in a last chunk of its own, when streamed
    ignored: tuple[str, ...] = ()  # names of fields that are not followed
