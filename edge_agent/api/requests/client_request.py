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
    metadata: dict[str, str] = {}  # the client's own, for the answer to say again
    others: tuple[GenerationRequest, ...] = ()  # further choices, of this prompt and of others
    num_choices: int = 1  # of each prompt
    echoes_prompt: bool = False  # before each answer
    writes_nothing: bool = False  # the prompt is read, and no token comes out
    keep_alive: bool | None = None  # the client asks only for the model to be there, or to go
