"""What a board asks the verifier's tokenizer over HTTP, outside any stream: text in, ids out.

MessagePack; the answer is packed ids (`shared.protocol.token_ids`). Pure.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from shared.errors import RemoteProtocolError
from shared.protocol.messages import (
    MAX_CHAT_MESSAGES,
    PLAIN_TEMPLATE,
    ChatMessage,
    TemplateOptions,
)

TOKENS_PATH = "/v1/tokens"
# As much as 131,072 tokens of English; a longer prompt is told its length by an answer.
MAX_QUESTION_BYTES = 1 << 20


class TokenQuestion(msgspec.Struct, frozen=True, array_like=True):
    """A plain prompt, or turns of a chat, as an Open would hold them."""

    text: str = ""
    messages: Annotated[tuple[ChatMessage, ...], Meta(max_length=MAX_CHAT_MESSAGES)] = ()
    template: TemplateOptions = PLAIN_TEMPLATE
    adds_special: bool = True  # of a text: what the tokenizer sets around a whole prompt


def pack_question(question: TokenQuestion) -> bytes:
    """The question as it travels."""
    return msgspec.msgpack.encode(question)


def unpack_question(packed: bytes) -> TokenQuestion:
    """The question that travelled.

    Raises:
        RemoteProtocolError: it is none.
    """
    try:
        return msgspec.msgpack.decode(packed, type=TokenQuestion)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"question for tokens cannot be read: {error}") from None
