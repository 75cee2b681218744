"""What a client is told where the verifier ends its stream, or says what cannot be. Pure."""

from __future__ import annotations

from shared.errors import (
    GoodspeedError,
    ModelError,
    PromptTooLong,
    RemoteProtocolError,
    RequestRefused,
    TooManyStreams,
    VerifierAway,
)
from shared.protocol.messages import Error, ErrorCode


def client_error(error: Error) -> GoodspeedError:
    """What the verifier said, by what the client can do about it."""
    field = error.field or None
    if error.code == ErrorCode.REQUEST and error.prompt_tokens:
        lengths = (error.prompt_tokens, error.most_prompt_tokens)
        return PromptTooLong(error.sentence, field, *lengths)
    if error.code == ErrorCode.REQUEST:
        return RequestRefused(error.sentence, field)
    if error.code == ErrorCode.UNKNOWN_STREAM:
        return RequestRefused(error.sentence, "id")
    if error.code == ErrorCode.LIMIT:
        return TooManyStreams(error.sentence)
    if error.code == ErrorCode.PAUSED:
        return VerifierAway(error.sentence)
    return ModelError(f"the verifier ended the stream: {error.sentence}")


def broken_protocol(error: RemoteProtocolError) -> ModelError:
    """No fault of the client's."""
    return ModelError(f"the verifier broke the protocol: {error}")
