"""What a client asks for, in whatever dialect: the value between a body and its answer."""

from __future__ import annotations

import msgspec

from edge_agent.generation.generation import GenerationRequest


class TokenWish(msgspec.Struct, frozen=True):
    """How a client wants to be told the tokens of a prompt."""

    is_llama_servers: bool = False  # in its shape, else in vLLM's
    adds_special: bool = True
    with_pieces: bool = False  # of llama-server: the text of each beside its id
    with_strings: bool = False  # of vLLM: the texts in a list of their own


class ClientRequest(msgspec.Struct, frozen=True):
    """What a client asks for, and how it wants the answer."""

    generation: GenerationRequest
    is_streamed: bool = False
    includes_usage: bool = False  # in a last chunk of its own, when streamed
    ignored: tuple[str, ...] = ()  # names of fields that are not followed
    comes_back: bool = False  # for a streamed answer whose connection broke
    metadata: dict[str, str] = {}  # the client's own, for the answer to say again
    others: tuple[GenerationRequest, ...] = ()  # further choices, of this prompt and of others
    num_choices: int = 1  # of each prompt
    num_told: int = 1  # of those, the likeliest
    hides_logprobs: bool = False  # they serve to choose
    echoes_prompt: bool = False  # before each answer
    tells_prompt_logprobs: bool = False  # by the ids of its tokens, beside each answer
    writes_nothing: bool = False  # the prompt is read, and no token comes out
    tokens: TokenWish | None = None  # it asks for no answer, but for tokens
    keep_alive: bool | None = None  # the client asks only for the model to be there, or to go
