"""Every limit of a field, every wrong type and every kind of broken bytes is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from shared.errors import RemoteProtocolError
from shared.protocol.codec import decode_from_agent, decode_from_verifier
from shared.protocol.messages import (
    MAX_CHAT_MESSAGES,
    MAX_DRAFT_TOKENS,
    MAX_POSITION,
    MAX_STOP_BYTES,
    MAX_STOP_STRINGS,
    ChatMessage,
)
from shared.speculation.sampling import SamplingParameters

NOT_ALLOWED = "message is not allowed: "
NOT_MESSAGEPACK = "message is not valid MessagePack: "


def refusal(array: Any, decoder: Callable[[bytes], Any] = decode_from_agent) -> str:
    """The sentence that this array, or these bytes, are answered with."""
    message_bytes = array if isinstance(array, bytes) else msgpack.packb(array)
    with pytest.raises(RemoteProtocolError) as caught:
        decoder(message_bytes)
    assert "protocol" == caught.value.code
    return str(caught.value)


# --- limits -----------------------------------------------------------------------------------

DRAFT, OPEN = [4, 1, 2, 3, b""], [2, 1, 2]


def opened_with(*fields: Any) -> list[Any]:
    """An Open whose fields after stream_id begin with these."""
    return [*OPEN, *fields]


def sampled_with(*sampling: Any) -> list[Any]:
    return opened_with([], "", b"", b"", list(sampling))


def limited_with(*fields: Any) -> list[Any]:
    """An Open with these fields from `seed` on."""
    return opened_with([], "", b"", b"", [], *fields)


AGENT_LIMITS = [
    # field, largest or smallest that is allowed, what is not, and what the sentence says about it
    ("channel", [3, (1 << 32) - 1], [3, 1 << 32], "Expected `int` <= 4294967295 - at `$[1]`"),
    ("channel", [3, 0], [3, -1], "Expected `int` >= 0 - at `$[1]`"),
    ("stream_id", [2, 1, (1 << 63) - 1], [2, 1, 1 << 63], "<= 9223372036854775807 - at `$[2]`"),
    ("stream_id", [2, 1, 0], [2, 1, -1], "Expected `int` >= 0 - at `$[2]`"),
    ("agent_version", [1, 1, "n" * 200], [1, 1, "n" * 201], "length <= 200 - at `$[2]`"),
    ("draft_model", [1, 1, "", "n" * 200], [1, 1, "", "n" * 201], "length <= 200 - at `$[3]`"),
    (
        "vocab_size",
        [1, 1, "", "", (1 << 24) - 1],
        [1, 1, "", "", 1 << 24],
        "Expected `int` <= 16777215 - at `$[4]`",
    ),
    (
        "context_tokens",
        [1, 1, "", "", 1, b"", (1 << 32) - 1],
        [1, 1, "", "", 1, b"", 1 << 32],
        "Expected `int` <= 4294967295 - at `$[6]`",
    ),
    (
        "draft_microseconds",
        [1, 1, "", "", 1, b"", 1, (1 << 40) - 1],
        [1, 1, "", "", 1, b"", 1, 1 << 40],
        "Expected `int` <= 1099511627775 - at `$[7]`",
    ),
    (
        "max_streams",
        [1, 1, "", "", 1, b"", 1, 1, 4096],
        [1, 1, "", "", 1, b"", 1, 1, 4097],
        "Expected `int` <= 4096 - at `$[8]`",
    ),
    (
        "max_streams",
        [1, 1, "", "", 1, b"", 1, 1, 1],
        [1, 1, "", "", 1, b"", 1, 1, 0],
        "Expected `int` >= 1 - at `$[8]`",
    ),
    (
        "messages",
        opened_with([["user", ""]] * MAX_CHAT_MESSAGES),
        opened_with([["user", ""]] * (MAX_CHAT_MESSAGES + 1)),
        "1025 exceeds max_array_len(1024)",
    ),
    ("role", opened_with([["r" * 32, ""]]), opened_with([["r" * 33, ""]]), "at `$[3][0][0]`"),
    ("temperature", sampled_with(100.0), sampled_with(100.1), "<= 100.0 - at `$[7][0]`"),
    ("temperature", sampled_with(0.0), sampled_with(-0.1), ">= 0.0 - at `$[7][0]`"),
    ("top_k", sampled_with(1.0, 1 << 24), sampled_with(1.0, (1 << 24) + 1), "at `$[7][1]`"),
    ("top_k", sampled_with(1.0, 0), sampled_with(1.0, -1), "Expected `int` >= 0 - at `$[7][1]`"),
    ("top_p", sampled_with(1.0, 0, 1.0), sampled_with(1.0, 0, 1.01), "<= 1.0 - at `$[7][2]`"),
    ("top_p", sampled_with(1.0, 0, 5e-324), sampled_with(1.0, 0, 0.0), "> 0.0 - at `$[7][2]`"),
    ("seed", limited_with((1 << 63) - 1), limited_with(1 << 63), "at `$[8]`"),
    ("seed", limited_with(0), limited_with(-1), "Expected `int` >= 0 - at `$[8]`"),
    (
        "stop",
        limited_with(None, ["s"] * MAX_STOP_STRINGS),
        limited_with(None, ["s"] * (MAX_STOP_STRINGS + 1)),
        "Expected `array` of length <= 16 - at `$[9]`",
    ),
    (
        "stop",
        limited_with(None, ["s" * MAX_STOP_BYTES]),
        limited_with(None, ["s" * (MAX_STOP_BYTES + 1)]),
        "Expected `str` of length <= 256 - at `$[9][0]`",
    ),
    ("stop", limited_with(None, ["s"]), limited_with(None, [""]), "length >= 1 - at `$[9][0]`"),
    ("max_tokens", limited_with(None, [], 1), limited_with(None, [], 0), ">= 1 - at `$[10]`"),
    (
        "max_tokens",
        limited_with(None, [], MAX_POSITION),
        limited_with(None, [], MAX_POSITION + 1),
        "Expected `int` <= 16777216 - at `$[10]`",
    ),
    (
        "acceptance_mode",
        limited_with(None, [], None, "coupled"),
        limited_with(None, [], None, "auto"),
        "Invalid enum value 'auto' - at `$[11]`",
    ),
    (
        "draft_length",
        limited_with(None, [], None, None, MAX_DRAFT_TOKENS),
        limited_with(None, [], None, None, MAX_DRAFT_TOKENS + 1),
        "Expected `int` <= 128 - at `$[12]`",
    ),
    ("base", [4, 1, MAX_POSITION, 0, b""], [4, 1, MAX_POSITION + 1, 0, b""], "at `$[2]`"),
    ("offset", [4, 1, 0, MAX_POSITION, b""], [4, 1, 0, MAX_POSITION + 1, b""], "at `$[3]`"),
    ("drafting_milliseconds", [*DRAFT, (1 << 32) - 1], [*DRAFT, 1 << 32], "at `$[5]`"),
    ("draft_microseconds", [6, (1 << 40) - 1], [6, 1 << 40], "at `$[1]`"),
]
VERIFIER_LIMITS = [
    ("target_model", [65, 1, "n" * 200, 1, 1, 1, 1], [65, 1, "n" * 201, 1, 1, 1, 1], "at `$[2]`"),
    ("acceptance_mode", [66, 1, b"", 1, "rejection"], [66, 1, b"", 1, None], "at `$[4]`"),
    ("num_accepted", [67, 1, 2, 128, b""], [67, 1, 2, 129, b""], "<= 128 - at `$[3]`"),
    ("window", [67, 1, 2, 3, b"", 128], [67, 1, 2, 3, b"", 129], "<= 128 - at `$[5]`"),
    ("draft_length", [67, 1, 2, 3, b"", 1, 128], [67, 1, 2, 3, b"", 1, 129], "<= 128 - at `$[6]`"),
    ("window", [67, 1, 2, 3, b"", 1, 0], [67, 1, 2, 3, b"", 1, -1], ">= 0 - at `$[6]`"),
    (
        "finish",
        [67, 1, 2, 3, b"", 1, 1, ["stop", 7]],
        [67, 1, 2, 3, b"", 1, 1, ["tired", 7]],
        "Invalid enum value 'tired' - at `$[7][0]`",
    ),
    (
        "code",
        [68, "c" * 32, ""],
        [68, "c" * 33, ""],
        "Invalid enum value 'ccccccccccccccccccccccccccccccccc' - at `$[1]`",
    ),
    ("sentence", [68, "", "s" * 2000], [68, "", "s" * 2001], "length <= 2000 - at `$[2]`"),
    ("field", [68, "", "", None, "f" * 200], [68, "", "", None, "f" * 201], "at `$[4]`"),
    ("retry_after_seconds", [69, 3600.0], [69, 3600.1], "<= 3600.0 - at `$[1]`"),
    ("retry_after_seconds", [69, 0.0], [69, -0.1], ">= 0.0 - at `$[1]`"),
]


@pytest.mark.parametrize(("field", "allowed", "refused", "sentence"), AGENT_LIMITS)
def test_a_field_of_the_agent_is_limited(
    field: str, allowed: Any, refused: Any, sentence: str
) -> None:
    assert hasattr(decode_from_agent(msgpack.packb(allowed)), field) or field in {
        *SamplingParameters.__struct_fields__,
        *ChatMessage.__struct_fields__,
    }
    assert sentence in refusal(refused)


@pytest.mark.parametrize(("field", "allowed", "refused", "sentence"), VERIFIER_LIMITS)
def test_a_field_of_the_verifier_is_limited(
    field: str, allowed: Any, refused: Any, sentence: str
) -> None:
    assert hasattr(decode_from_verifier(msgpack.packb(allowed)), field)
    assert sentence in refusal(refused, decode_from_verifier)


@pytest.mark.parametrize("not_finite", [float("nan"), float("inf"), float("-inf")])
def test_sampling_parameters_are_finite(not_finite: float) -> None:
    assert "at `$[7][0]`" in refusal(sampled_with(not_finite))
    assert "at `$[7][2]`" in refusal(sampled_with(1.0, 0, not_finite))
    assert "at `$[1]`" in refusal([69, not_finite], decode_from_verifier)


# --- wrong types ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (True, "bool"),
        (1.0, "float"),
        ("1", "str"),
        (b"1", "bytes"),
        (None, "null"),
        ([], "array"),
        ({}, "object"),
    ],
)
def test_an_integer_is_nothing_but_an_integer(value: Any, found: str) -> None:
    assert NOT_ALLOWED + f"Expected `int`, got `{found}` - at `$[1]`" == refusal([3, value])


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        ([4, 1, 2, 3, "YWJj"], "Expected `bytes`, got `str` - at `$[4]`"),
        ([4, 1, 2, 3, [1, 2]], "Expected `bytes`, got `array` - at `$[4]`"),
        ([1, 1, b"0.1"], "Expected `str`, got `bytes` - at `$[2]`"),
        ([2, 1, 2, "hi"], "Expected `array`, got `str` - at `$[3]`"),
        ([2, 1, 2, [["user"]]], "Expected `array` of at least length 2, got 1 - at `$[3][0]`"),
        ([2, 1, 2, [], None], "Expected `str`, got `null` - at `$[4]`"),
        (sampled_with("1"), "Expected `float`, got `str` - at `$[7][0]`"),
        (sampled_with(True), "Expected `float`, got `bool` - at `$[7][0]`"),
        ([3], "Expected `array` of at least length 2, got 1"),
        ([], "Expected `array` of at least length 1, got 0"),
        (7, "Expected `array`, got `int`"),
        ("hello", "Expected `array`, got `str`"),
        (None, "Expected `array`, got `null`"),
        ({}, "Expected `array`, got `object`"),
        ([0], "Invalid value 0 - at `$[0]`"),
        ([99, 1], "Invalid value 99 - at `$[0]`"),
        ([-1, 1], "Invalid value -1 - at `$[0]`"),
        ([(1 << 64) - 1], "Invalid value 18446744073709551615 - at `$[0]`"),
        (["Ready", 1], "Expected `int`, got `str` - at `$[0]`"),
        ([True, 1], "Expected `int`, got `bool` - at `$[0]`"),
        ([3.0, 1], "Expected `int`, got `float` - at `$[0]`"),
        ([[3], 1], "Expected `int`, got `list` - at `$[0]`"),
    ],
)
def test_what_is_no_message_is_named(array: Any, sentence: str) -> None:
    assert NOT_ALLOWED + sentence == refusal(array)


def test_neither_end_may_send_the_messages_of_the_other() -> None:
    assert "Invalid value 67 - at `$[0]`" in refusal([67, 1, 2, 3, b""])
    assert "Invalid value 4 - at `$[0]`" in refusal(DRAFT, decode_from_verifier)


# --- what is no MessagePack of ours -----------------------------------------------------------


@pytest.mark.parametrize(
    ("message_bytes", "sentence"),
    [
        (b"", NOT_MESSAGEPACK + "Unpack failed: incomplete input"),
        (b"\x92\x03", NOT_MESSAGEPACK + "Unpack failed: incomplete input"),
        (b"\xc1", NOT_MESSAGEPACK + "FormatError"),
        (b"\x91\x07\x91\x07", NOT_MESSAGEPACK + "unpack(b) received extra data."),
        # a text frame, as some client of another protocol might send
        (b'{"type": "hello"}', NOT_MESSAGEPACK + "unpack(b) received extra data."),
        (b"7", NOT_ALLOWED + "Expected `array`, got `int`"),
        (b"\x92\x07\xa1\xff", NOT_MESSAGEPACK + "'utf-8' codec can't decode byte 0xff in position"),
        # extension types: one byte of content, none, none inside an array, timestamps
        (b"\xd4\x07\x00", NOT_MESSAGEPACK + "2 exceeds max_ext_len(0)"),
        (b"\xc7\x00\x07", NOT_MESSAGEPACK + "extension type 7 is not allowed"),
        (b"\x92\x07\xc7\x00\x07", NOT_MESSAGEPACK + "extension type 7 is not allowed"),
        (b"\xd6\xff\x00\x00\x00\x00", NOT_MESSAGEPACK + "5 exceeds max_ext_len(0)"),
        (b"\xc7\x00\xff", NOT_MESSAGEPACK + "invalid timestamp data (length 0)"),
        # maps
        (b"\x81\x01\x02", NOT_MESSAGEPACK + "1 exceeds max_map_len(0)"),
        (b"\x92\x07\x81\x01\x01", NOT_MESSAGEPACK + "1 exceeds max_map_len(0)"),
        # headers that promise far more than there is
        (b"\xdd\xff\xff\xff\xff", NOT_MESSAGEPACK + "4294967295 exceeds max_array_len(1024)"),
        (b"\xdc\x04\x01", NOT_MESSAGEPACK + "1025 exceeds max_array_len(1024)"),
        (b"\xdf\xff\xff\xff\xff", NOT_MESSAGEPACK + "4294967295 exceeds max_map_len(0)"),
        (b"\xdb\xff\xff\xff\xff", NOT_MESSAGEPACK + "Unpack failed: incomplete input"),
        (b"\xc6\xff\xff\xff\xff", NOT_MESSAGEPACK + "Unpack failed: incomplete input"),
        (b"\xc9\xff\xff\xff\xff\x01", NOT_MESSAGEPACK + "0 exceeds max_ext_len(0)"),
        # nesting
        (b"\x91" * 250_000, NOT_MESSAGEPACK + "StackError"),
        (b"\xdc\x04\x00" * 80_000, NOT_MESSAGEPACK + "StackError"),
        (b"\x91" * 1000 + b"\x07", NOT_ALLOWED + "Expected `int`, got `list` - at `$[0]`"),
    ],
)
@pytest.mark.parametrize("decoder", [decode_from_agent, decode_from_verifier])
def test_bytes_that_are_no_message_are_refused(
    decoder: Callable[[bytes], Any], message_bytes: bytes, sentence: str
) -> None:
    assert refusal(message_bytes, decoder).startswith(sentence)


def test_a_long_refused_value_does_not_make_a_long_sentence() -> None:
    sentence = refusal(limited_with(None, [], None, "x" * 200_000))
    assert sentence.startswith("message is not allowed: Invalid enum value 'xxx")
    assert sentence.endswith("xxx' - at `$[11]`")
    assert len(sentence) < 300
