"""The one error tree of goodspeed: callers choose by class, never by text.

Every error carries the values that made it and builds its own sentence from them.
This module must never import another module of the project.
"""

from __future__ import annotations

from enum import StrEnum

# On the wire; a longer code is no code of any version.
MAX_CODE_LENGTH = 32


class ErrorCode(StrEnum):
    """What the message `Error` is about, and what makes an end of a connection send one."""

    PROTOCOL = "protocol"
    VERSION = "version"
    VOCABULARY = "vocabulary"
    REQUEST = "request"
    LIMIT = "limit"
    MODEL = "model"
    REPLACED = "replaced"
    TOKEN_IN_USE = "token_in_use"  # by another agent, which stays
    REVOKED = "revoked"  # the device's token is not known any more
    UNKNOWN_STREAM = "unknown_stream"  # nothing is kept under this name; never said of an Open
    PAUSED = "paused"  # the device, by the verifier's operator: it gets no new stream now
    OTHER = "other"  # of a later version; never sent

    @classmethod
    def _missing_(cls, value: object) -> ErrorCode | None:
        is_code = isinstance(value, str) and len(value) <= MAX_CODE_LENGTH
        return cls.OTHER if is_code else None


class GoodspeedError(Exception):
    """Anything that goodspeed itself reports; `str()` is one sentence for a person."""


class ConfigError(GoodspeedError):
    """One or more settings are wrong; nothing was started (exit code 78)."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class ProtocolError(GoodspeedError):
    """A message or its order breaks the protocol."""


class LocalProtocolError(ProtocolError):
    """This side was about to break the protocol: a bug of ours."""


class RemoteProtocolError(ProtocolError):
    """The other side broke the protocol; `code` is that of the `Error` to answer with."""

    def __init__(self, sentence: str, code: ErrorCode = ErrorCode.PROTOCOL) -> None:
        self.code = code
        super().__init__(sentence)


class LinkError(GoodspeedError):
    """The connection between agent and verifier does not work.

    `retry_after_seconds`: the verifier asked not to be tried again before.
    """

    def __init__(self, sentence: str, retry_after_seconds: float | None = None) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(sentence)


class LinkLost(LinkError):
    """The connection ended or could not be made; trying again may help."""


class UntrustedVerifier(LinkLost):
    """TLS was not agreed on: a certificate is not trusted, or one end speaks plain text."""


class VerifierLoading(LinkLost):
    """The verifier is there and loads its model; it answers as soon as that is done."""

    def __init__(self, percent: str, retry_after_seconds: float | None = None) -> None:
        progress = f" ({percent} %)" if percent.isdecimal() and len(percent) <= 3 else ""
        super().__init__(f"the verifier is loading its model{progress}", retry_after_seconds)


class AuthRejected(LinkError):
    """The verifier does not accept this device's token."""


class TokenRevoked(AuthRejected):
    """The verifier knew this device's token, and an operator revoked it."""

    def __init__(self) -> None:
        super().__init__(
            "this device's token was revoked at the verifier; `goodspeed-verifier token add` there "
            "makes another"
        )


class HandshakeRejected(LinkError):
    """The verifier refused this agent: version or vocabulary differ, or its token is in use.

    Trying again is futile until an operator changes a program or a model; clients are told so.
    """


class VerifierAway(LinkError):
    """No verifier generates for this board now; clients get a 503 with this sentence."""


class RequestRefused(GoodspeedError):
    """A request asks for something that cannot be done; `field` names the part of it."""

    def __init__(self, sentence: str, field: str | None = None) -> None:
        self.field = field
        super().__init__(sentence)


class PromptTooLong(RequestRefused):
    """A prompt of so many tokens, of which there may be so many; clients look for this one."""

    def __init__(self, sentence: str, field: str | None, num_tokens: int, most_tokens: int) -> None:
        self.num_tokens = num_tokens
        self.most_tokens = most_tokens
        super().__init__(sentence, field)


class TooManyStreams(GoodspeedError):
    """The verifier runs as many streams of this device as it may; one must end first.

    `retry_after_seconds`: when that may be, as far as it can be told.
    """

    def __init__(self, sentence: str, retry_after_seconds: int | None = None) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(sentence)


class ModelError(GoodspeedError):
    """A model file is missing, broken or unsuitable, or the model failed."""


class OutOfCache(ModelError):
    """A key/value cache has no room for another token."""
