"""Messages survive the wire; whatever else arrives is one clear protocol error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.codec import decode_from_agent, decode_from_verifier, encode
from shared.errors import LocalProtocolError, RemoteProtocolError
from shared.fingerprint import Difference
from shared.messages import (
    MAX_CHAT_MESSAGES,
    MAX_DRAFT_TOKENS,
    MAX_MESSAGE_BYTES,
    MAX_NAME_LENGTH,
    MAX_POSITION,
    MAX_SENTENCE_LENGTH,
    MAX_STOP_BYTES,
    MAX_STOP_STRINGS,
    Cancel,
    ChatMessage,
    Draft,
    Error,
    Finish,
    GoingAway,
    Goodbye,
    Hello,
    Message,
    Open,
    Opened,
    Ready,
    Status,
    Verdict,
    Welcome,
)
from shared.sampling import SamplingParameters
from shared.token_ids import pack_token_ids

# --- a strategy for every message -------------------------------------------------------------

packed = st.binary(max_size=40)
names = st.text(max_size=20) | st.just("n" * MAX_NAME_LENGTH)
channels = st.integers(0, (1 << 32) - 1)
positions = st.integers(0, MAX_POSITION)
draft_lengths = st.integers(0, MAX_DRAFT_TOKENS)
numbers_of_63_bits = st.integers(0, (1 << 63) - 1)
microseconds = st.integers(0, (1 << 40) - 1)
any_integers = st.integers(-(1 << 63), (1 << 64) - 1)
modes = st.sampled_from(["rejection", "coupled"])
samplings = st.builds(
    SamplingParameters,
    temperature=st.floats(0, 100),
    top_k=st.integers(0, 1 << 24),
    top_p=st.floats(0, 1, exclude_min=True),
)
chat_messages = st.builds(ChatMessage, role=st.text(max_size=32), content=st.text(max_size=30))
finishes = st.builds(
    Finish,
    reason=st.sampled_from(["stop", "end", "length", "context", "cancelled"]),
    text_bytes=st.integers(0, 1 << 30),
)
differences = st.builds(
    Difference,
    block=st.none() | st.integers(0, 1000),
    token_bytes=st.lists(packed, max_size=4).map(tuple),
    special_ids=st.lists(st.integers(0, 1 << 24), max_size=4).map(tuple),
)

STRATEGIES: dict[type[Message], st.SearchStrategy[Any]] = {
    Hello: st.builds(
        Hello,
        protocol_version=any_integers,
        agent_version=names,
        draft_model=names,
        vocab_size=st.integers(0, (1 << 24) - 1),
        fingerprint=packed,
        context_tokens=st.integers(0, (1 << 32) - 1),
        draft_microseconds=microseconds,
        max_streams=st.integers(1, 4096),
    ),
    Open: st.builds(
        Open,
        channel=channels,
        stream_id=numbers_of_63_bits,
        messages=st.lists(chat_messages, max_size=3).map(tuple),
        text=st.text(max_size=30),
        prompt=packed,
        committed=packed,
        sampling=samplings | st.just(SamplingParameters()),
        seed=st.none() | numbers_of_63_bits,
        stop=st.lists(st.text(min_size=1, max_size=20), max_size=MAX_STOP_STRINGS).map(tuple),
        max_tokens=st.none() | st.integers(1, MAX_POSITION),
        acceptance_mode=st.none() | modes,
        draft_length=st.none() | draft_lengths,
    ),
    Ready: st.builds(Ready, channel=channels),
    Draft: st.builds(
        Draft,
        channel=channels,
        base=positions,
        position=positions,
        tokens=packed,
        drafting_microseconds=microseconds,
        rows=packed,
    ),
    Cancel: st.builds(Cancel, channel=channels),
    Status: st.builds(Status, draft_microseconds=microseconds),
    Goodbye: st.builds(Goodbye),
    Welcome: st.builds(
        Welcome,
        protocol_version=any_integers,
        target_model=names,
        vocab_size=st.integers(0, 1 << 24),
        epoch=st.integers(0, 1 << 40),
        context_tokens=st.integers(0, 1 << 32),
        max_streams=st.integers(1, 4096),
    ),
    Opened: st.builds(
        Opened,
        channel=channels,
        prompt=packed,
        seed=numbers_of_63_bits,
        acceptance_mode=modes,
        cached_prefix_tokens=st.integers(0, 1 << 24),
    ),
    Verdict: st.builds(
        Verdict,
        channel=channels,
        position=positions,
        num_accepted=draft_lengths,
        tokens=packed,
        draft_length=draft_lengths,
        window=draft_lengths,
        finish=st.none() | finishes,
    ),
    Error: st.builds(
        Error,
        code=st.text(max_size=32),
        sentence=st.text(max_size=60) | st.just("s" * MAX_SENTENCE_LENGTH),
        channel=st.none() | channels,
        field=names,
        difference=st.none() | differences,
    ),
    GoingAway: st.builds(GoingAway, retry_after_seconds=st.floats(0, 3600)),
}
AGENT_TYPES = [message_type for message_type in STRATEGIES if message_type.__struct_config__.tag < 64]
messages = st.one_of(*STRATEGIES.values())

DECODERS = [decode_from_agent, decode_from_verifier]


def decode(message_bytes: bytes, message_type: type[Message]) -> Message:
    if message_type in AGENT_TYPES:
        return decode_from_agent(message_bytes)
    return decode_from_verifier(message_bytes)


def full_array(message: Message) -> list[Any]:
    """Type number and every field, defaults included."""
    array: list[Any] = msgspec.to_builtins(message, builtin_types=(bytes,))
    return array


def refusal(array: Any, decoder: Callable[[bytes], Any] = decode_from_agent) -> str:
    """The sentence that this array, or these bytes, are answered with."""
    message_bytes = array if isinstance(array, bytes) else msgpack.packb(array)
    with pytest.raises(RemoteProtocolError) as caught:
        decoder(message_bytes)
    assert "protocol" == caught.value.code
    return str(caught.value)


# --- round trips ------------------------------------------------------------------------------


@pytest.mark.parametrize("message_type", STRATEGIES)
def test_every_message_comes_back_as_it_went(message_type: type[Message]) -> None:
    @settings(max_examples=60)
    @given(STRATEGIES[message_type])
    def comes_back(message: Any) -> None:
        assert message == decode(encode(message), message_type)

    comes_back()


@given(messages)
def test_trailing_defaults_are_left_out_and_nothing_else(message: Any) -> None:
    array = msgpack.unpackb(encode(message))
    assert full_array(message)[: len(array)] == array
    fields, defaults = message.__struct_fields__, message.__struct_defaults__
    optional = dict(zip(fields[len(fields) - len(defaults) :], defaults, strict=True))
    names_sent, names_left_out = fields[: len(array) - 1], fields[len(array) - 1 :]
    assert all(getattr(message, name) == optional[name] for name in names_left_out)
    if names_sent and names_sent[-1] in optional:
        assert getattr(message, names_sent[-1]) != optional[names_sent[-1]]


@given(messages)
def test_defaults_that_were_sent_all_the_same_are_understood(message: Any) -> None:
    assert message == decode(msgpack.packb(full_array(message)), type(message))


wire_scalars = st.none() | st.booleans() | any_integers | st.floats() | st.text() | st.binary()
wire_values = st.recursive(wire_scalars, lambda inner: st.lists(inner, max_size=4), max_leaves=8)


@given(messages, st.lists(wire_values, max_size=4))
def test_what_a_later_version_appends_is_ignored(message: Any, appended: list[Any]) -> None:
    later = msgpack.packb(full_array(message) + appended)
    assert repr(message) == repr(decode(later, type(message)))


def test_what_a_later_version_appends_to_a_part_is_ignored() -> None:
    later = [2, 1, 2, [["user", "hi", 7]], "", b"", b"", [0.5, 3, 0.9, "new"]]
    assert (
        Open(1, 2, (ChatMessage("user", "hi"),), sampling=SamplingParameters(0.5, 3, 0.9))
    ) == decode_from_agent(msgpack.packb(later))


def test_missing_trailing_fields_take_their_defaults() -> None:
    assert Draft(channel=1, base=2, position=3, tokens=b"x") == decode_from_agent(
        msgpack.packb([4, 1, 2, 3, b"x"])
    )
    assert SamplingParameters(temperature=0.5) == decode_from_agent(
        msgpack.packb([2, 1, 2, [], "", b"", b"", [0.5]])
    ).sampling


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (Goodbye(), "91 07"),
        (Ready(channel=3), "92 03 03"),
        (Draft(channel=1, base=2, position=2, tokens=b"\x02\x05\x00"), "95 04 01 02 02 c403020500"),
        (Verdict(channel=1, position=2, num_accepted=1, tokens=b""), "95 43 01 02 01 c400"),
        (GoingAway(retry_after_seconds=1.0), "92 45 cb3ff0000000000000"),
    ],
)
def test_the_bytes_of_a_message_are_pinned(message: Any, wire: str) -> None:
    assert bytes.fromhex(wire) == encode(message)


# --- size -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("position", "draft_bytes", "verdict_bytes"), [(40, 19, 12), (127, 19, 12), (1000, 23, 14)]
)
def test_a_greedy_draft_of_four_tokens_and_its_verdict_are_small(
    position: int, draft_bytes: int, verdict_bytes: int
) -> None:
    draft = Draft(
        channel=1,
        base=position,
        position=position,
        tokens=pack_token_ids([11, 22_222, 333, 44_444]),
        drafting_microseconds=40_000,
    )
    verdict = Verdict(
        channel=1,
        position=position,
        num_accepted=4,
        tokens=pack_token_ids([5_555]),
        draft_length=4,
        window=8,
    )
    assert (draft_bytes, verdict_bytes) == (len(encode(draft)), len(encode(verdict)))


def test_a_message_of_just_the_largest_size_passes() -> None:
    overhead = len(encode(Open(channel=1, stream_id=2, text="x" * 100_000))) - 100_000
    largest = Open(channel=1, stream_id=2, text="x" * (MAX_MESSAGE_BYTES - overhead))
    assert MAX_MESSAGE_BYTES == len(encode(largest))
    assert largest == decode_from_agent(encode(largest))


def test_a_message_that_is_too_long_is_our_error_here_and_theirs_there() -> None:
    with pytest.raises(LocalProtocolError) as caught:
        encode(Open(channel=1, stream_id=2, text="x" * MAX_MESSAGE_BYTES))
    assert "Open of 262157 bytes exceeds 262144" == str(caught.value)
    assert "message of 262145 bytes exceeds 262144" == refusal(b"\x00" * (MAX_MESSAGE_BYTES + 1))


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (
            Open(channel=1, stream_id=2, text="\ud800"),
            "Open cannot be packed: 'utf-8' codec can't encode character '\\ud800' in position 0:"
            " surrogates not allowed",
        ),
        (Ready(channel=1 << 64), "Ready cannot be packed: Integer value out of range"),
    ],
)
def test_a_value_that_messagepack_does_not_have_is_our_error(message: Any, sentence: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        encode(message)
    assert sentence == str(caught.value)


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
    ("position", [4, 1, 0, MAX_POSITION, b""], [4, 1, 0, MAX_POSITION + 1, b""], "at `$[3]`"),
    ("drafting_microseconds", [*DRAFT, (1 << 40) - 1], [*DRAFT, 1 << 40], "at `$[5]`"),
    ("draft_microseconds", [6, (1 << 40) - 1], [6, 1 << 40], "at `$[1]`"),
]
VERIFIER_LIMITS = [
    ("target_model", [65, 1, "n" * 200, 1, 1, 1, 1], [65, 1, "n" * 201, 1, 1, 1, 1], "at `$[2]`"),
    ("acceptance_mode", [66, 1, b"", 1, "rejection"], [66, 1, b"", 1, None], "at `$[4]`"),
    ("num_accepted", [67, 1, 2, 128, b""], [67, 1, 2, 129, b""], "<= 128 - at `$[3]`"),
    ("draft_length", [67, 1, 2, 3, b"", 128], [67, 1, 2, 3, b"", 129], "<= 128 - at `$[5]`"),
    ("window", [67, 1, 2, 3, b"", 1, 128], [67, 1, 2, 3, b"", 1, 129], "<= 128 - at `$[6]`"),
    ("window", [67, 1, 2, 3, b"", 1, 0], [67, 1, 2, 3, b"", 1, -1], ">= 0 - at `$[6]`"),
    (
        "finish",
        [67, 1, 2, 3, b"", 1, 1, ["stop", 7]],
        [67, 1, 2, 3, b"", 1, 1, ["tired", 7]],
        "Invalid enum value 'tired' - at `$[7][0]`",
    ),
    ("code", [68, "c" * 32, ""], [68, "c" * 33, ""], "length <= 32 - at `$[1]`"),
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
    [(True, "bool"), ("1", "str"), (b"1", "bytes"), (1.0, "float"), (None, "NoneType"), ([], "list")],
)
def test_an_integer_is_nothing_but_an_integer(value: Any, found: str) -> None:
    sentence = f"message is not allowed: Expected `int`, got `{found}` - at `$[1]`"
    assert sentence.replace("list", "array").replace("NoneType", "null") == refusal(
        [3, value]
    ).replace("list", "array").replace("NoneType", "null")


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        ([4, 1, 2, 3, "YWJj"], "Expected `bytes`, got `str` - at `$[4]`"),
        ([4, 1, 2, 3, [1, 2]], "Expected `bytes`, got `list` - at `$[4]`"),
        ([1, 1, b"0.1"], "Expected `str`, got `bytes` - at `$[2]`"),
        ([2, 1, 2, "hi"], "Expected `array`, got `str` - at `$[3]`"),
        ([2, 1, 2, [["user"]]], "Expected `array` of at least length 2, got 1 - at `$[3][0]`"),
        ([2, 1, 2, [], None], "Expected `str`, got `NoneType` - at `$[4]`"),
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
    expected = f"message is not allowed: {sentence}"
    assert expected == refusal(array).replace("`NoneType`, got", "`null`, got")


def test_neither_end_may_send_the_messages_of_the_other() -> None:
    assert "Invalid value 67 - at `$[0]`" in refusal([67, 1, 2, 3, b""])
    assert "Invalid value 4 - at `$[0]`" in refusal(DRAFT, decode_from_verifier)


# --- what is no MessagePack of ours -----------------------------------------------------------

NOT_MESSAGEPACK = "message is not valid MessagePack: "


@pytest.mark.parametrize(
    ("message_bytes", "sentence"),
    [
        (b"", NOT_MESSAGEPACK + "Unpack failed: incomplete input"),
        (b"\x92\x03", NOT_MESSAGEPACK + "Unpack failed: incomplete input"),
        (b"\xc1", NOT_MESSAGEPACK + "FormatError"),
        (b"\x91\x07\x91\x07", NOT_MESSAGEPACK + "unpack(b) received extra data."),
        # a text frame, as some client of another protocol might send
        (b'{"type": "hello"}', NOT_MESSAGEPACK + "unpack(b) received extra data."),
        (b"7", "message is not allowed: Expected `array`, got `int`"),
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
        (b"\xc9\xff\xff\xff\xff\x01", NOT_MESSAGEPACK + "4294967295 exceeds max_ext_len(0)"),
        # nesting
        (b"\x91" * 250_000, NOT_MESSAGEPACK + "StackError"),
        (b"\xdc\x04\x00" * 80_000, NOT_MESSAGEPACK + "StackError"),
        (b"\x91" * 1000 + b"\x07", "message is not allowed: Expected `int`, got `list` - at `$[0]`"),
    ],
)
@pytest.mark.parametrize("decoder", DECODERS)
def test_bytes_that_are_no_message_are_refused(
    decoder: Callable[[bytes], Any], message_bytes: bytes, sentence: str
) -> None:
    assert refusal(message_bytes, decoder).startswith(sentence)


def test_a_long_refused_value_does_not_make_a_long_sentence() -> None:
    sentence = refusal(limited_with(None, [], None, "x" * 200_000))
    assert sentence.startswith("message is not allowed: Invalid enum value 'xxx")
    assert sentence.endswith("xxx' - at `$[11]`")
    assert len(sentence) < 300


# --- anything at all --------------------------------------------------------------------------

type_numbers = st.sampled_from([m.__struct_config__.tag for m in STRATEGIES])
lists_of_values = st.lists(wire_values, max_size=13)
almost_messages = st.builds(lambda tag, fields: msgpack.packb([tag, *fields]), type_numbers, lists_of_values)


@st.composite
def damaged_messages(draw: st.DrawFn) -> bytes:
    """A valid message with some bytes changed, and cut or continued."""
    damaged = bytearray(encode(draw(messages)))
    for _ in range(draw(st.integers(1, 3))):
        damaged[draw(st.integers(0, len(damaged) - 1))] = draw(st.integers(0, 255))
    return bytes(damaged[: draw(st.integers(0, len(damaged)))]) + draw(st.binary(max_size=3))


def understood_or_refused(message_bytes: bytes) -> None:
    for decoder in DECODERS:
        try:
            message = decoder(message_bytes)
        except RemoteProtocolError as error:
            assert len(str(error)) <= MAX_SENTENCE_LENGTH
        else:
            assert isinstance(message, Message)


@settings(max_examples=2000)
@given(st.binary(max_size=80))
def test_random_bytes_raise_nothing_but_a_protocol_error(message_bytes: bytes) -> None:
    understood_or_refused(message_bytes)


@settings(max_examples=1000)
@given(almost_messages)
def test_random_fields_raise_nothing_but_a_protocol_error(message_bytes: bytes) -> None:
    understood_or_refused(message_bytes)


@settings(max_examples=700)
@given(damaged_messages())
def test_damaged_messages_raise_nothing_but_a_protocol_error(message_bytes: bytes) -> None:
    understood_or_refused(message_bytes)
