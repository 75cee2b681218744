"""Messages to bytes and back, with every limit set; anything wrong is one clear protocol error.

This module must never let another exception than RemoteProtocolError out of `decode_*`.
"""

from __future__ import annotations

import functools
from typing import TypeVar

import msgpack
import msgspec

from shared.errors import LocalProtocolError, RemoteProtocolError
from shared.protocol.messages import (
    MAX_CHAT_MESSAGES,
    MAX_MESSAGE_BYTES,
    AgentMessage,
    Draft,
    RatedDraft,
    VerifierMessage,
)

Envelope = TypeVar("Envelope", bound=msgspec.Struct)

# The longest reason to report: a refused value is part of it, and it must fit into an Error.
_MAX_REASON_LENGTH = 200
_ROOT = " - at `$.message`"  # where msgspec finds fault with the message as a whole


class _FromAgent(msgspec.Struct):
    """msgspec remembers what a struct's fields may be; a union it would look through each time."""

    message: AgentMessage


class _FromVerifier(msgspec.Struct):
    message: VerifierMessage


def _refuse_extension(code: int, _: bytes) -> None:
    # An empty extension passes `max_ext_len`, and msgpack makes a tuple of it.
    raise ValueError(f"extension type {code} is not allowed")


# Nearly all that boards say is a draft. Read at once it takes a fourth of the time; with at most as
# many fields as are known here, there is nothing in it that the limits below would have to refuse.
_DRAFTS: msgspec.msgpack.Decoder[Draft | RatedDraft] = msgspec.msgpack.Decoder(Draft | RatedDraft)
_DRAFT_TAGS = (Draft.__struct_config__.tag, RatedDraft.__struct_config__.tag)
_FIX_ARRAY = 0x90  # of up to 15 elements, which the first byte counts
_LONGEST_DRAFT = _FIX_ARRAY + 1 + len(Draft.__struct_fields__)

# The longest array of any message is the list of chat messages; no message holds a map.
_LIMITS: dict[str, object] = {
    "raw": False,
    "strict_map_key": True,
    "max_array_len": MAX_CHAT_MESSAGES,
    "max_map_len": 0,
    "max_ext_len": 0,
    "ext_hook": _refuse_extension,
    "max_str_len": MAX_MESSAGE_BYTES,
    "max_bin_len": MAX_MESSAGE_BYTES,
}

_ENCODER = msgspec.msgpack.Encoder()


def encode(message: AgentMessage | VerifierMessage) -> bytes:
    """The message as one MessagePack array; trailing fields that hold their default are left out.

    Raises:
        LocalProtocolError: too long, or a value that MessagePack does not have.
    """
    # Fields as they are: to make builtins of them, and bytes of those, took three times as long.
    fields = msgspec.structs.astuple(message)
    num_told = len(fields)
    tag, defaults = _tag_and_trailing_defaults(type(message))
    for default in defaults:
        if fields[num_told - 1] != default:
            break
        num_told -= 1
    try:
        packed = _ENCODER.encode((tag, *fields[:num_told]))
    except (ValueError, OverflowError) as error:  # a lone surrogate, an integer beyond 64 bits
        name = type(message).__name__
        raise LocalProtocolError(f"{name} cannot be packed: {error}") from error
    if len(packed) > MAX_MESSAGE_BYTES:
        name = type(message).__name__
        raise LocalProtocolError(f"{name} of {len(packed)} bytes exceeds {MAX_MESSAGE_BYTES}")
    return packed


@functools.cache
def _tag_and_trailing_defaults(
    message_type: type[msgspec.Struct],
) -> tuple[str | int | None, tuple[object, ...]]:
    """What the message begins with, and at what its last fields may be left out, the last first."""
    return message_type.__struct_config__.tag, message_type.__struct_defaults__[::-1]


def decode_from_agent(packed: bytes) -> AgentMessage:
    """The agent's message.

    Raises:
        RemoteProtocolError: too long, not MessagePack, an unknown type, or a field out of range.
    """
    if _is_whole_draft(packed):
        try:
            return _DRAFTS.decode(packed)
        except msgspec.MsgspecError:  # the other way has the sentence for it
            pass
    return _decode(packed, _FromAgent).message


def decode_from_verifier(packed: bytes) -> VerifierMessage:
    """The verifier's message; raises like `decode_from_agent`."""
    return _decode(packed, _FromVerifier).message


def _is_whole_draft(packed: bytes) -> bool:
    """Whether it begins as a draft does that has no field of a later version."""
    is_short = 1 < len(packed) <= MAX_MESSAGE_BYTES
    return is_short and _FIX_ARRAY < packed[0] <= _LONGEST_DRAFT and packed[1] in _DRAFT_TAGS


def _decode(packed: bytes, envelope: type[Envelope]) -> Envelope:
    if len(packed) > MAX_MESSAGE_BYTES:
        raise RemoteProtocolError(f"message of {len(packed)} bytes exceeds {MAX_MESSAGE_BYTES}")
    try:
        fields = msgpack.unpackb(packed, **_LIMITS)
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        reason = _shortened(str(error) or type(error).__name__)
        raise RemoteProtocolError(f"message is not valid MessagePack: {reason}") from error
    try:
        return msgspec.convert({"message": fields}, envelope, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        reason = "`$".join(str(error).removesuffix(_ROOT).rsplit("`$.message", 1))
        raise RemoteProtocolError(f"message is not allowed: {_shortened(reason)}") from error


def _shortened(reason: str) -> str:
    if len(reason) <= _MAX_REASON_LENGTH:
        return reason
    half = _MAX_REASON_LENGTH // 2
    return f"{reason[:half]} … {reason[-half:]}"
