"""Whether an agent may join: its protocol version and its vocabulary must be the verifier's.

Pure. This module must never let a draft model in that means other tokens by the same ids.
"""

from __future__ import annotations

from shared.daemon.peer_text import one_line
from shared.errors import GoodspeedError
from shared.protocol.fingerprint import first_difference
from shared.protocol.messages import PROTOCOL_VERSION, Error, ErrorCode, Hello
from verifier.target.target import Tokenizer


class ConnectionRefused(GoodspeedError):
    """The greeting failed; `error` is what the board is told."""

    def __init__(self, error: Error) -> None:
        self.error = error
        super().__init__(error.sentence)


def check_hello(hello: Hello, fingerprint: bytes, tokenizer: Tokenizer, target_model: str) -> None:
    """Compare an agent with the verifier, whose vocabulary has this fingerprint.

    Raises:
        ConnectionRefused: version or vocabulary differ; the error says where.
    """
    if hello.protocol_version != PROTOCOL_VERSION:
        sentence = f"agent speaks protocol {hello.protocol_version}, verifier {PROTOCOL_VERSION}"
        raise ConnectionRefused(Error(ErrorCode.VERSION, sentence))
    difference = first_difference(fingerprint, hello.fingerprint, tokenizer.token_bytes)
    if difference is not None:
        sentence = (
            f"draft model {one_line(hello.draft_model)} has another vocabulary than {target_model}"
        )
        num_tokens = len(tokenizer.token_bytes)
        if hello.vocab_size != num_tokens:
            sentence += f" ({hello.vocab_size} tokens, {num_tokens} there)"
        raise ConnectionRefused(Error(ErrorCode.VOCABULARY, sentence, difference=difference))
