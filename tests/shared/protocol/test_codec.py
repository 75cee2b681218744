"""Messages survive the wire and stay small; any other bytes are nothing but a protocol error."""

from __future__ import annotations

from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from shared.protocol import codec
from shared.protocol.codec import decode_from_agent, decode_from_verifier, encode
from shared.protocol.fingerprint import BLOCK_IDS, Difference
from shared.protocol.messages import (
    MAX_MESSAGE_BYTES,
    AgentMessage,
    AssignedDraft,
    Assignment,
    ChatMessage,
    Draft,
    DraftHeld,
    Error,
    GoingAway,
    Goodbye,
    Message,
    Notice,
    Open,
    RatedDraft,
    Ready,
    Verdict,
)
from shared.protocol.token_ids import pack_token_ids
from shared.speculation.sampling import SamplingParameters
from tests.support.messages.message_strategies import MESSAGE_STRATEGIES, messages, wire_integers

DECODERS = [decode_from_agent, decode_from_verifier]


def decode(message_bytes: bytes, message: Message) -> Message:
    """What the other end makes of the message."""
    decoder = decode_from_agent if isinstance(message, AgentMessage) else decode_from_verifier
    return decoder(message_bytes)


def full_array(message: Message) -> list[Any]:
    """Type number and every field, defaults included."""
    array: list[Any] = msgspec.to_builtins(message, builtin_types=(bytes,))
    return array


# --- round trips ------------------------------------------------------------------------------


@pytest.mark.parametrize("message_type", MESSAGE_STRATEGIES)
def test_every_message_comes_back_as_it_went(message_type: type[Message]) -> None:
    @settings(max_examples=60)
    @given(MESSAGE_STRATEGIES[message_type])
    def comes_back(message: Any) -> None:
        assert message == decode(encode(message), message)

    comes_back()


@given(messages)
def test_trailing_defaults_are_left_out_and_nothing_else(message: Any) -> None:
    array = msgpack.unpackb(encode(message))
    assert msgpack.packb(full_array(message)[: len(array)]) == msgpack.packb(array)
    fields, defaults = message.__struct_fields__, message.__struct_defaults__
    optional = dict(zip(fields[len(fields) - len(defaults) :], defaults, strict=True))
    names_sent, names_left_out = fields[: len(array) - 1], fields[len(array) - 1 :]
    assert all(getattr(message, name) == optional[name] for name in names_left_out)
    if names_sent and names_sent[-1] in optional:
        assert getattr(message, names_sent[-1]) != optional[names_sent[-1]]


@given(messages)
def test_defaults_that_were_sent_all_the_same_are_understood(message: Any) -> None:
    assert message == decode(msgpack.packb(full_array(message)), message)


wire_scalars = st.none() | st.booleans() | wire_integers | st.floats() | st.text() | st.binary()
wire_values = st.recursive(wire_scalars, lambda inner: st.lists(inner, max_size=4), max_leaves=8)


@given(messages, st.lists(wire_values, max_size=4))
def test_what_a_later_version_appends_is_ignored(message: Any, appended: list[Any]) -> None:
    later = msgpack.packb(full_array(message) + appended)
    assert repr(message) == repr(decode(later, message))


def test_what_a_later_version_appends_to_a_part_is_ignored() -> None:
    later = [2, 1, 2, [["user", "hi", "", [], "", "", 7]], "", b"", b"", [0.5, 3, 0.9, "new"]]
    assert (
        Open(1, 2, (ChatMessage("user", "hi"),), sampling=SamplingParameters(0.5, 3, 0.9))
    ) == decode_from_agent(msgpack.packb(later))


def test_missing_trailing_fields_take_their_defaults() -> None:
    assert Draft(channel=1, base=2, offset=3, tokens=b"x") == decode_from_agent(
        msgpack.packb([4, 1, 2, 3, b"x"])
    )
    assert (
        SamplingParameters(temperature=0.5)
        == decode_from_agent(msgpack.packb([2, 1, 2, [], "", b"", b"", [0.5]])).sampling
    )


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (Goodbye(), "91 07"),
        (Ready(channel=3), "92 03 03"),
        (Draft(channel=1, base=2, offset=0, tokens=b"\x05\x00"), "95 04 01 02 00 c4020500"),
        (Verdict(channel=1, position=2, num_accepted=1, tokens=b""), "95 43 01 02 01 c400"),
        (GoingAway(retry_after_seconds=1.0), "92 45 cb3ff0000000000000"),
        (Notice(because="no"), "92 47 a26e6f"),
        (Notice(), "91 47"),
        (Ready(channel=3, draft=2), "93 03 03 02"),
        (DraftHeld(b"s" * 32), f"92 0b c420 {'73' * 32}"),
        (
            Assignment((AssignedDraft("a", 9, b"s" * 32),), (0, 1)),
            f"93 48 91 93 a161 09 c420 {'73' * 32} 92 00 01",
        ),
    ],
)
def test_the_bytes_of_a_message_are_pinned(message: Any, wire: str) -> None:
    assert bytes.fromhex(wire) == encode(message)


# --- size -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("position", "draft_bytes", "verdict_bytes"), [(40, 16, 10), (127, 16, 10), (1000, 18, 12)]
)
def test_a_greedy_draft_of_four_tokens_and_its_verdict_are_small(
    position: int, draft_bytes: int, verdict_bytes: int
) -> None:
    draft = Draft(
        channel=1,
        base=position,
        offset=0,
        tokens=pack_token_ids([11, 22_222, 333, 44_444]),
        drafting_milliseconds=40,
    )
    verdict = Verdict(
        channel=1,
        position=position,
        num_accepted=4,
        tokens=pack_token_ids([5_555]),
        window=8,
    )
    assert (draft_bytes, verdict_bytes) == (len(encode(draft)), len(encode(verdict)))


def test_a_whole_block_of_a_vocabulary_fits_into_an_error() -> None:
    block = Difference(block=3, token_bytes=(b"t" * 200,) * BLOCK_IDS)
    error = Error(code=ErrorCode.VOCABULARY, sentence="", difference=block)
    assert error == decode_from_verifier(encode(error))


@pytest.mark.parametrize("code", ErrorCode)
def test_the_code_of_an_error_comes_out_as_it_went_in(code: ErrorCode) -> None:
    error = decode_from_verifier(encode(Error(code, "no")))
    assert isinstance(error, Error)
    assert error.code is code


@pytest.mark.parametrize("code", ["quota", "", "limit ", "x" * 32])
def test_an_error_with_a_code_of_a_later_version_is_still_an_error(code: str) -> None:
    error = decode_from_verifier(msgpack.packb([68, code, "come back tomorrow", 3]))
    assert Error(ErrorCode.OTHER, "come back tomorrow", channel=3) == error


@pytest.mark.parametrize("code", [None, 5, b"limit", ["limit"]])
def test_the_code_of_an_error_is_text(code: object) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_from_verifier(msgpack.packb([68, code, "no"]))


def test_a_message_of_just_the_largest_size_passes() -> None:
    overhead = len(encode(Open(channel=1, stream_id=2, text="x" * 100_000))) - 100_000
    largest = Open(channel=1, stream_id=2, text="x" * (MAX_MESSAGE_BYTES - overhead))
    assert MAX_MESSAGE_BYTES == len(encode(largest))
    assert largest == decode_from_agent(encode(largest))


def test_a_message_that_is_too_long_is_our_error_here_and_theirs_there() -> None:
    with pytest.raises(LocalProtocolError) as caught:
        encode(Open(channel=1, stream_id=2, text="x" * MAX_MESSAGE_BYTES))
    assert "Open of 262154 bytes exceeds 262144" == str(caught.value)
    with pytest.raises(RemoteProtocolError) as refused:
        decode_from_agent(b"\x00" * (MAX_MESSAGE_BYTES + 1))
    assert "message of 262145 bytes exceeds 262144" == str(refused.value)


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (
            Open(channel=1, stream_id=2, text="\ud800"),
            "Open cannot be packed: 'utf-8' codec can't encode character '\\ud800' in position 0:"
            " surrogates not allowed",
        ),
        (
            Ready(channel=1 << 64),
            "Ready cannot be packed: can't serialize ints < -2**63 or > 2**64 - 1",
        ),
    ],
)
def test_a_value_that_messagepack_does_not_have_is_our_error(message: Any, sentence: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        encode(message)
    assert sentence == str(caught.value)


# --- drafts, which are read at once --------------------------------------------------------------

drafts = st.one_of(MESSAGE_STRATEGIES[Draft], MESSAGE_STRATEGIES[RatedDraft])


@st.composite
def damaged_drafts(draw: st.DrawFn) -> bytes:
    """A draft with one of its bytes changed, cut or continued, or as it is."""
    packed = bytearray(encode(draw(drafts)))
    packed[draw(st.integers(0, len(packed) - 1))] = draw(st.integers(0, 255))
    return bytes(packed[: draw(st.integers(1, len(packed)))]) + draw(st.binary(max_size=2))


@settings(max_examples=700)
@given(drafts.map(encode) | damaged_drafts())
def test_a_draft_is_read_and_refused_like_every_other_message(packed: bytes) -> None:
    def read() -> Message | str:
        try:
            return decode_from_agent(packed)
        except RemoteProtocolError as error:
            return str(error)

    at_once = read()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "_is_whole_draft", lambda _: False)
        assert read() == at_once


# --- anything at all --------------------------------------------------------------------------

type_numbers = st.sampled_from([m.__struct_config__.tag for m in MESSAGE_STRATEGIES])
lists_of_values = st.lists(wire_values, max_size=13)
almost_messages = st.builds(
    lambda tag, fields: msgpack.packb([tag, *fields]), type_numbers, lists_of_values
)


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
            answer: Message = decoder(message_bytes)
        except RemoteProtocolError as error:
            answer = Error(code=error.code, sentence=str(error))
            assert answer == decode_from_verifier(encode(answer))
        assert isinstance(answer, Message)


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
