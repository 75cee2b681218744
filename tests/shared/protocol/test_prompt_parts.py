"""Long prompts come out of their parts as they went in, and no end keeps more than the limits."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import RemoteProtocolError, RequestRefused
from shared.protocol.codec import decode_from_agent, encode
from shared.protocol.messages import (
    MAX_MESSAGE_BYTES,
    MAX_TOOLS_BYTES,
    PART_BYTES,
    ChatMessage,
    Open,
    Opened,
    OpenPart,
    ToolCall,
)
from shared.protocol.prompt_parts import (
    MAX_PARTS,
    MAX_PROMPT_BYTES,
    OpenCollector,
    cut_open,
    cut_opened,
    longest_prompt_bytes,
)
from shared.protocol.token_ids import count_token_ids, pack_token_ids, unpack_token_ids

CONTEXT = 1 << 17
# Long enough for several parts, of characters of one to four bytes.
long_texts = st.builds(
    lambda text, count: text * count,
    st.text("aé€😀", min_size=1),
    st.integers(0, 9000),
)
calls = st.builds(ToolCall, st.text("abc", max_size=9), st.just("look up"), long_texts)
turns = st.builds(
    ChatMessage,
    st.sampled_from(["user", "assistant", "tool"]),
    long_texts,
    st.just("") | long_texts,
    st.lists(calls, max_size=2).map(tuple),
    st.text("abc", max_size=9),
    st.text("abc", max_size=9),
)
id_lists = st.builds(
    lambda ids, count: pack_token_ids(ids * count),
    st.lists(st.integers(0, 1 << 20), min_size=1, max_size=5),
    st.integers(0, 9000),
)


def put_together(messages: list[Any]) -> Open:
    """What the other end makes of these messages."""
    first, *rest = (decode_from_agent(encode(message)) for message in messages)
    assert isinstance(first, Open)
    if not rest:
        return first
    collector = OpenCollector(first, context_tokens=CONTEXT)
    wholes = [collector.take(part) for part in rest]  # type: ignore[arg-type]
    assert [None] * (len(wholes) - 1) == wholes[:-1]
    assert wholes[-1] is not None
    return wholes[-1]


@given(st.lists(turns, max_size=4).map(tuple), long_texts, id_lists, id_lists, id_lists)
def test_an_open_comes_out_of_its_parts_as_it_went_in(
    messages: tuple[ChatMessage, ...], text: str, prompt: bytes, committed: bytes, tools: bytes
) -> None:
    message = Open(
        *(1, 2, messages, text, prompt, committed),
        seed=7,
        stop=("x",),
        max_tokens=5,
        tools=tools[:MAX_TOOLS_BYTES],
    )
    parts = cut_open(message)
    assert message == put_together(parts)
    assert all(len(encode(part)) <= PART_BYTES + 1024 for part in parts)
    assert all(part.channel == 1 for part in parts)


def test_a_short_open_is_one_message() -> None:
    message = Open(1, 2, (ChatMessage("user", "x" * 1000),) * 30)
    assert [message] == cut_open(message)


def test_many_short_turns_travel_together() -> None:
    message = Open(1, 2, (ChatMessage("user", "x" * 10),) * 1000)
    assert 2 == len(cut_open(message))
    assert message == put_together(cut_open(message))


def test_a_prompt_of_ids_says_how_long_it_is() -> None:
    first, *rest = cut_open(Open(1, 2, prompt=pack_token_ids([70_000] * CONTEXT)))
    assert isinstance(first, Open)
    assert (CONTEXT, True) == (first.num_prompt_tokens, first.goes_on)
    assert [True] * (len(rest) - 1) + [False] == [part.goes_on for part in rest]
    assert CONTEXT == sum(count_token_ids(part.prompt) for part in (first, *rest))


def collector(limit_tokens: int = CONTEXT, **first: Any) -> OpenCollector:
    message = Open(1, 2, **({"text": "x", "goes_on": True} | first))
    return OpenCollector(message, context_tokens=limit_tokens)


@pytest.mark.parametrize("number", [2, 7])
def test_a_part_that_is_not_the_next_one_is_an_error(number: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"^part {number} came instead of 1$"):
        collector().take(OpenPart(1, number))


def test_the_first_chat_message_continues_none() -> None:
    with pytest.raises(RemoteProtocolError, match="the first chat message continues another one"):
        collector().take(OpenPart(1, 1, (ChatMessage("", "x"),)))


def test_the_first_call_continues_none() -> None:
    calls = (ToolCall("", "", "x"),)
    with pytest.raises(RemoteProtocolError, match="the first call of a chat message continues"):
        collector().take(OpenPart(1, 1, (ChatMessage("user", "x", tool_calls=calls),)))


def test_parts_together_hold_no_more_calls_than_one_chat_message() -> None:
    calls = (ToolCall("c", "look_up", "{}"),) * 200
    kept = collector(messages=(ChatMessage("assistant", "", tool_calls=calls),))
    with pytest.raises(RemoteProtocolError, match="more than 256 calls in a chat message"):
        kept.take(OpenPart(1, 1, (ChatMessage("", "", tool_calls=calls),)))


def test_parts_together_hold_no_more_tools_than_one_open() -> None:
    kept = collector(tools=b"x" * MAX_TOOLS_BYTES)
    with pytest.raises(RemoteProtocolError, match=f"tools of more than {MAX_TOOLS_BYTES} bytes"):
        kept.take(OpenPart(1, 1, tools=b"x"))


def test_parts_together_hold_no_more_chat_messages_than_one_open() -> None:
    turns = (ChatMessage("user", "x"),) * 600
    with pytest.raises(RemoteProtocolError, match="more than 1024 chat messages"):
        collector(messages=turns).take(OpenPart(1, 1, turns))


def test_malformed_ids_are_an_error() -> None:
    with pytest.raises(RemoteProtocolError, match="token ids of 1 bytes are malformed"):
        collector().take(OpenPart(1, 1, prompt=b"x", goes_on=True))


@pytest.mark.parametrize(("field", "content"), [("text", "x" * 40_000), ("prompt", bytes(40_000))])
def test_no_more_is_kept_than_fits_the_context(field: str, content: Any) -> None:
    limit = longest_prompt_bytes(2048)
    assert MAX_MESSAGE_BYTES == limit
    kept = collector(2048)
    for number in range(1, 7):
        kept.take(OpenPart(1, number, **{field: content}, goes_on=True))
    sentence = f"^prompt of more than {limit} bytes, for 2048 tokens$"
    with pytest.raises(RequestRefused, match=sentence) as refused:
        kept.take(OpenPart(1, 7, **{field: content}, goes_on=True))
    assert "prompt" == refused.value.field


def test_a_trickle_of_parts_is_an_error() -> None:
    kept = collector()
    for number in range(1, MAX_PARTS):
        kept.take(OpenPart(1, number, goes_on=True))
    with pytest.raises(RemoteProtocolError, match=f"an Open of more than {MAX_PARTS} parts"):
        kept.take(OpenPart(1, MAX_PARTS, goes_on=True))


def test_the_longest_prompt_grows_with_the_context_up_to_a_limit() -> None:
    assert 128 * 32_768 == longest_prompt_bytes(32_768)
    assert MAX_PROMPT_BYTES == longest_prompt_bytes(1 << 20)


@given(id_lists.filter(bool))
def test_a_prompt_is_told_in_parts_that_make_it_whole(prompt: bytes) -> None:
    message = Opened(3, prompt, 7, "coupled", 5)
    first, *rest = cut_opened(message)
    assert isinstance(first, Opened)
    if not rest:
        assert message == first
        return
    told = unpack_token_ids(first.prompt, 1 << 24).tolist()
    for part in rest:
        assert (3, len(told)) == (part.channel, part.offset)  # type: ignore[union-attr]
        told += unpack_token_ids(part.tokens, 1 << 24).tolist()  # type: ignore[union-attr]
    assert (prompt, len(told)) == (pack_token_ids(told), first.num_prompt_tokens)
    assert message == msgspec.structs.replace(first, prompt=prompt, num_prompt_tokens=0)
    assert all(len(encode(part)) <= PART_BYTES + 100 for part in (first, *rest))
