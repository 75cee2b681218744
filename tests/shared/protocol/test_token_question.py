from __future__ import annotations

import msgspec
import pytest

from shared.errors import RemoteProtocolError
from shared.protocol.messages import MAX_CHAT_MESSAGES, ChatMessage, TemplateOptions
from shared.protocol.token_question import TokenQuestion, pack_question, unpack_question


@pytest.mark.parametrize(
    "question",
    [
        TokenQuestion("né 😀", adds_special=False),
        TokenQuestion(messages=(ChatMessage("user", "hi"),), template=TemplateOptions("{}", False)),
    ],
)
def test_a_question_travels(question: TokenQuestion) -> None:
    assert question == unpack_question(pack_question(question))


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\xc1",
        b"\x91" * 100_000,
        msgspec.msgpack.encode([1]),
        msgspec.msgpack.encode(["x", [["user", "hi"]] * (MAX_CHAT_MESSAGES + 1)]),
        b"\x91\xa1\xff",  # no UTF-8
        b"\x1f\x8b" + bytes(100),
    ],
)
def test_what_is_none_is_refused(packed: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="question for tokens cannot be read"):
        unpack_question(packed)
